f() { echo "[$v]"; }; v=1; v=2 f; v=3 sh -c 'echo $v'; echo $v
