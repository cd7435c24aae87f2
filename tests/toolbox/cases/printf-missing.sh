printf '%s-%d|\n'; printf '%s %s\n' a b c; printf '%d\n' 0x10 010 "'A"
