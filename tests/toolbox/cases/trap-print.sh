trap 'echo "x y"' EXIT; trap
