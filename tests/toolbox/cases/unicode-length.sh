x='äöü'; echo ${#x}
# differs: characters are counted, not bytes, as in a UTF-8 shell
