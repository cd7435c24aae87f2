touch 'a b' 'a*'; echo a\* "a*" a*
