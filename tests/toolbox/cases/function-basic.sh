f() { echo "f $# $1"; }; f a b; f; g() (x=1; echo sub); x=0; g; echo $x
