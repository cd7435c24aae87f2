printf 'a:3\nb:1\nc:2\n' | sort -t: -k2; printf 'a:30\nb:4\n' | sort -t : -k 2n -o out; cat out
