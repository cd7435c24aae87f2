env -i A=1 B=2 env | sort; X=5 env | grep '^X='; env -u X sh -c 'echo [$X]'; env A=b sh -c 'echo $A'; env nosuch 2>/dev/null; echo $?; env - sh -c 'echo ok'
