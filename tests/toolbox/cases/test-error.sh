[ a -eq 1 ] 2>/dev/null; echo $?; [ a = a 2>/dev/null; echo $?
