printf 'x\ny\n' > f; sed -i 's/x/z/' f; cat f; sed -n 'w out' f; cat out; printf 'INS\n' > ins; sed '1r ins' f; sed 's/y/Y/w changed' f; cat changed; printf 's/z/Q/\n' > scr; sed -f scr f
