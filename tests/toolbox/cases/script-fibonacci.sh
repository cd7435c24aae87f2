a=0 b=1; while [ $a -lt 100 ]; do printf '%s ' $a; t=$((a+b)); a=$b; b=$t; done; echo
