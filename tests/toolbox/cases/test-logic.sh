[ a = a -a b = b ] && echo 1; [ a = b -o b = b ] && echo 2; [ ! a = b ] && echo 3; [ \( a = a \) -a ! x = y ] && echo 4; test 1 -eq 1 && echo 5
