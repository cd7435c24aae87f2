if true; then
	cat <<-E
		indented
	  two
	E
fi
