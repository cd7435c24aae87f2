x='echo a b; y=1'; eval "$x"; echo $y; eval; echo $?; eval 'exit 4'
