printf '%s %d %5.2f|%-5s|%05d|%x\n' str 42 3.14159 ab 7 255; printf '%s\n' a b c; printf 'no newline'; echo
