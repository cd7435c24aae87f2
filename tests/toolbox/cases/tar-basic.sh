mkdir -p d/e; echo one > d/a; echo two > d/e/b; ln -s a d/l; tar cf x.tar d; tar tf x.tar | sort; mkdir out; tar xf x.tar -C out; cat out/d/a out/d/e/b; readlink out/d/l; tar xOf x.tar d/a
