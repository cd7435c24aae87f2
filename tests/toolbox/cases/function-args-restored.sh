set -- a b; f() { shift; echo "$@"; }; f 1 2 3; echo "$@"
