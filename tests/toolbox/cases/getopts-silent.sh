while getopts :a:b o -a 1 -z -a; do echo "$o $OPTARG"; done
