printf 'a\nb\n' | sed -n -e '1p' -e '2p'; printf 'A\n' | sed 's/a/x/I'; echo abc | sed 's/\(b\)/<\1>/;s/c/d/'; echo "a b" | sed 's/ /\n/'; echo ab | sed 's/a\|b/x/g'
