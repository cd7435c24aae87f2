printf 'ab\001abcdef\002xyzw\n' | strings; printf 'ab\001abcdef' | strings -n 5
