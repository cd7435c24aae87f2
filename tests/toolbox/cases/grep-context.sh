seq 10 > f; grep -A1 3 f; grep -B1 5 f; grep -C1 8 f; grep -A1 -E '2|7' f; grep -n -B1 4 f
