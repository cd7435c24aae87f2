x=$(printf 'a\nb\n\n\n'); printf '[%s]\n' "$x"; echo $x
