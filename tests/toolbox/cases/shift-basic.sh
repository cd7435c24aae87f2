set -- a b c; shift; echo $*; shift 2; echo $#; (shift 1) 2>/dev/null; echo $?
