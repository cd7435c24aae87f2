echo 1 > a; echo 2 > b; head a b; tail -n 1 a b; head -q a b; head -v a
