echo 'echo from stdin; read x; echo "got $x"
line' | sh; printf 'echo $1\n' | sh -s arg
# differs: commands from a pipe are read line by line, so that they can read what follows, as POSIX asks
