printf 'a\\b\\\nc\n' > f; read x < f; printf "%s\n" "$x"; read -r x < f; printf "%s\n" "$x"
