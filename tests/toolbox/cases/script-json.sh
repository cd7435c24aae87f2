cat > t.json <<'E'
{"name": "x", "items": [1, 2, 3]}
E
sed -n 's/.*"name": "\([^"]*\)".*/\1/p' t.json; grep -o '[0-9]' t.json | paste -s -d+ | sed 's/^/echo $((/;s/$/))/' | sh
