{ echo a; echo b; } | cat; { echo c; } ; x=1; { x=2; }; echo $x
