echo "$(cat <<E
in sub $(echo nested)
E
)"
