a=1; eval "b=\$a"; eval echo '"$b   x"'; for i in 1 2; do eval "v$i=$i$i"; done; echo $v1 $v2
