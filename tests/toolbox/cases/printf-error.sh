printf '%d\n' abc 2>/dev/null; echo $?; printf 2>/dev/null; [ $? -ne 0 ] && echo usage
