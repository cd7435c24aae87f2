timeout 0.3 sleep 5; echo $?; timeout 5 echo fast; timeout 5 false; echo $?
