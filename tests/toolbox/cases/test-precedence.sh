[ '(' = '(' ] && echo 1; [ ! = ! ] && echo 2; [ -n = -n ] && echo 3; [ '!' ] && echo 4; [ -f = x ] || echo 5
