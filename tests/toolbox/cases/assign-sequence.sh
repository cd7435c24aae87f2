a=1; b=$a$a c=$b; echo $b $c; x=y=z; echo $x
