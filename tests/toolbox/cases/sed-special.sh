echo 'a.b.c' | sed 's/\./-/g'; echo 'a[b]c' | sed 's/[][]/_/g'; echo "it's" | sed "s/'/\"/"; echo 'a*b' | sed 's/\*/x/'; printf 'a\tb\n' | sed 's/\t/ /'; printf 'no newline' | sed s/no/a/
