printf '1 one\n2 two\n' | while read n w; do echo "$w=$n"; done; printf 'no newline' | { read x; echo $? $x; }
