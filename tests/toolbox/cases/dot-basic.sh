echo 'x=sourced; echo in $x; return 3; echo no' > s; . ./s; echo $? $x
