readonly r=1; (r=2; echo no) 2>/dev/null; echo $? $r; (unset r) 2>/dev/null; echo $?
