seq 9 | sed -n '2~3p'; printf 'tab\tx\n' | sed -n l; echo aaa | sed 's/a/b/2g'; echo hello world | sed -E 's/(h)(.*)/\u\1\U\2/'; printf 'a\nb\n' | sed -s 's/a/b/'
# differs: busybox lacks these of GNU's: FIRST~STEP, l, -s, \U and \u; and a number together with g
