printf 'b\na\nC\n10\n9\n' > f; sort f; sort -r f; sort -n f; sort -f f; sort -nr f
