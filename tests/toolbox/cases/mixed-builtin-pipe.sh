echo 3 1 2 | { read a b c; printf '%s\n' $a $b $c; } | sort | { while read x; do printf '%s,' $x; done; echo; }
