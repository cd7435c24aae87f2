echo 'a1b22c333' | grep -o '[0-9]*'; echo 'x=1 y=2' | grep -oE '[a-z]=[0-9]'; printf 'ab\nab ab\n' | grep -o ab | wc -l
