HOME=/home/me; echo ~ ~/x "~" '~' a~; x=~/y:~/z; echo $x
