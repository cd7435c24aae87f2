for i in 1 2; do echo $i; done > f; cat f; if true; then cat; fi < f; { read a; read b; echo $b$a; } < f
