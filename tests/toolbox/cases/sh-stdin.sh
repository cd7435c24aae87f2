echo 'echo from stdin; read x; echo "got $x"
line' | sh; printf 'echo $1\n' | sh -s arg
