(echo $((1+)); echo no) 2>/dev/null; echo $?; (echo $((1/0)); echo no) 2>/dev/null; echo $?
