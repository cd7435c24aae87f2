mkdir -p a/b; d=$PWD; cd a/b; [ "$PWD" = "$d/a/b" ] && echo ok1; cd ..; [ "$PWD" = "$d/a" ] && echo ok2; cd - >/dev/null; [ "$PWD" = "$d/a/b" ] && echo ok3; cd "$d"; cd nope 2>/dev/null; echo $?
