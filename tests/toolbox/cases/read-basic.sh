printf 'a b c\nd\n' | { read x y; echo "$x|$y"; read z; echo $z; read w; echo $? "[$w]"; }
