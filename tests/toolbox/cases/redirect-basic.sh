echo a > f; echo b >> f; cat < f; cat f f > g; wc -l < g
