echo 'a  b $x `y` \n' | cat -A
