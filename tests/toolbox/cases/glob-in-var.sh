touch p.c q.c; x='*.c'; echo $x; echo "$x"; for i in $x; do echo $i; done
