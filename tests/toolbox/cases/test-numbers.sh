[ 1 -eq 1 ] && echo a; [ 2 -gt 1 ] && echo b; [ 1 -lt 2 ] && echo c; [ 1 -le 1 ] && echo d; [ 1 -ge 2 ] || echo e; [ -1 -lt 0 ] && echo f; [ 010 -eq 10 ] && echo g
