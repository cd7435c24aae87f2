{ for i in 1 2 3; do echo $i; sleep 0.05; done; } | while read x; do echo "r$x"; done
