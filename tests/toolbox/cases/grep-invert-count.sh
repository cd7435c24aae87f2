printf 'a\nb\nc\n' | grep -vc b; printf 'a\n' | grep -v a; echo $?; printf '' | grep x; echo $?
