sh -c 'if' 2>/dev/null; echo $?; sh -c 'echo )' 2>/dev/null; echo $?; sh -c 'for' 2>/dev/null; echo $?; sh -c 'echo "x' 2>/dev/null; echo $?; sh -c '; ;' 2>/dev/null; echo $?
