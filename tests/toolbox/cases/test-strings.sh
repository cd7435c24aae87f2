[ a = a ] && echo 1; [ a != b ] && echo 2; [ -n x ] && echo 3; [ -z '' ] && echo 4; [ x ] && echo 5; [ '' ] || echo 6; [ ] || echo 7
