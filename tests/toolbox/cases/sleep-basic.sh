sleep 0; sleep 0.1; echo $?; sleep abc 2>/dev/null; echo $?; sleep 2>/dev/null; echo $?
