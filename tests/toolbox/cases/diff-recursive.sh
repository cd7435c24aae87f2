mkdir a b; echo 1 > a/f; echo 2 > b/f; echo x > a/only; diff -rq a b; diff -u a/f b/f | tail -n +3; printf 'x' > n1; printf 'x\n' > n2; diff -u n1 n2 | tail -n +3
