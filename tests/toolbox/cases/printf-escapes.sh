printf 'a\tb\\n\n\101\n'; printf '%b|' 'x\ny' 'a\tb' 'c\0101'; echo; printf '%%|%c%c\n' xyz abc
