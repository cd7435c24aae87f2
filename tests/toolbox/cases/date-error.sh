date -d 'not a date' 2>/dev/null; echo $?; date +%Y | grep -c '^20'
