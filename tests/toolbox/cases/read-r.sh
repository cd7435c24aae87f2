printf 'a\\b\\\nc\n' > f; read x < f; echo "$x"; read -r x < f; echo "$x"
