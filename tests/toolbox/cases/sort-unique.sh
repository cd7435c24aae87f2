printf 'b\na\nb\na\nc\n' | sort -u
