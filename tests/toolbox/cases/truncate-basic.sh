printf 12345 > f; truncate -s 3 f; cat f; echo; truncate -s 5 f; wc -c < f; truncate -s 1K g; wc -c < g
