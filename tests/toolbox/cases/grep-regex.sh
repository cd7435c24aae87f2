printf 'abc\na.c\naac\nab+c\nabbc\n' > f; grep 'a.c' f; grep 'a\.c' f; grep '^ab' f; grep 'c$' f; grep 'ab*c' f; grep -E 'ab+c' f; grep 'ab\+c' f; grep -F 'a.c' f; grep -F 'b+' f
