sh -n -c 'echo never'; echo $?
