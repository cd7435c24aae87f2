seq 100000 | wc -l; seq 100000 | tail -1; dd if=/dev/zero bs=1000000 count=3 2>/dev/null | wc -c
