x=1; (x=2; echo $x; exit 5); echo $? $x; (cd /; pwd); [ "$(pwd)" != / ] && echo kept
