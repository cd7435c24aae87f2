printf 'name,age\nann,30\nbob,25\n' > f; sum=0; { read header; while IFS=, read name age; do sum=$((sum+age)); echo "$name is $age"; done; echo $sum; } < f
