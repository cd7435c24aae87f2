printf "%s\n" 'a  b $x `y` \n' | cat -A
