ulimit -n >/dev/null; echo $?
