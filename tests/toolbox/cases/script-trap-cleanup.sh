t=$(mktemp -d); trap 'rm -rf "$t"' EXIT; echo data > "$t/f"; cat "$t/f"
