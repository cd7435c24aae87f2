echo 'a:b:c:d' | { IFS=: read x y z; echo "$x $y $z"; }; echo ' lead trail ' | { read x; echo "[$x]"; }; echo ' keep ' | { IFS= read x; echo "[$x]"; }
