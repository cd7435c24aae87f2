x=1; unset x; echo [$x]; f() { echo f; }; unset -f f; f 2>/dev/null; echo $?
