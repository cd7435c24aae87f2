echo 'john smith' | sed 's/\([a-z]*\) \([a-z]*\)/\2 \1/'; echo 'john smith' | sed -E 's/([a-z]+) ([a-z]+)/\2, \1/'; echo 2024-01-02 | sed -r 's/([0-9]+)-([0-9]+)-([0-9]+)/\3.\2.\1/'
