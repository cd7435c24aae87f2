x=1; export x; y=2; sh -c 'echo [$x] [$y]'; export z=3; sh -c 'echo $z'; unset x; sh -c 'echo [$x]'
