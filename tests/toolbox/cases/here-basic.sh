x=val; cat <<E
a $x $(echo sub) $((1+1)) \$x \\ "q" 'r'
E
