printf 'a\n\n\nb\tc\n' > f; cat -n f; cat -b f; cat -v f; cat -A f; cat -e f; cat f - < f | wc -l
