printf 'a1\nb 2\n_x\nTAB\there\n' > f; grep '[[:digit:]]' f; grep '[[:space:]]' f; grep '^[^a-z]' f; grep '[[:upper:]]\{2\}' f; grep '\<x' f; grep -w here f
