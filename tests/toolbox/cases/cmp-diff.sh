echo a > x; echo b > y; cmp x y; echo $?; cmp -s x y; echo $?; cmp x x; echo $?; printf '1\n2\n3\n' > p; printf '1\nX\n3\n' > q; diff -u p q | tail -n +3; diff p p; echo $?; diff -q p q; echo $?
