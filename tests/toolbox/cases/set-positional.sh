set -- a b c; echo $*; set x; echo $* $#; set --; echo $#; set -- -n; echo "$1"
