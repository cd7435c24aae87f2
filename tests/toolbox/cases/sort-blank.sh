printf '  b\na\n c\n' | sort; printf '  b\na\n c\n' | sort -b
