printf 'a b c\n' | wc; printf 'äö\n' | wc -m
