# reference: ash
x=3; y=x; echo $((x*x)) $(($x+1)) $((y)) $((unset_one+1)); z=' 7 '; echo $((z+1))
