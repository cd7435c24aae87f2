printf 'x 3 b\ny 1 c\nz 2 a\nw 10 d\n' > f; sort -k2 f; sort -k2n f; sort -k3 f; sort -k2,2nr f; sort -t' ' -k3,3r f
