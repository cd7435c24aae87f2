a='x y' b="$a z" c=`echo q`; echo "$a|$b|$c"; d=; echo "[$d]"
