cat <<E | tr a-z A-Z
shout
E
while read l; do echo "<$l>"; done <<E
1
2
E
