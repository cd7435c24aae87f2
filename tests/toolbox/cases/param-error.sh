(unset x; : ${x:?is missing}; echo no) 2>/dev/null; echo $?
