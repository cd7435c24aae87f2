n=0; down() { n=$((n+1)); [ $1 -eq 0 ] || down $(($1-1)); }; down 60; echo $n
