(set -e; false && true; echo after); (set -e; { false && true; }; echo group); echo $?
