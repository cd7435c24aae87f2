printf 'b 1\na 1\nc 0\n' | sort -s -k2,2; sort -c /dev/null; echo $?; printf 'b\na\n' | sort -c 2>/dev/null; echo $?
