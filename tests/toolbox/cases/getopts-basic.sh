f() { OPTIND=1; while getopts ab:c o; do echo "$o ${OPTARG-none}"; done; shift $((OPTIND-1)); echo "rest $*"; }; f -a -b val -c x y; f -acb val; f -bval -- -a
