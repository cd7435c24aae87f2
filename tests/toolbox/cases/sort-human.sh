printf '3M\n2G\n900K\n' | sort -h; printf '1 b\n1 a\n2 c\n' | sort -u -k1,1; printf 'a\nA\nb\n' | sort -fu; printf 'v1.10\nv1.9\n' | sort -V
# differs: Debian's busybox has no -h and -V; of equal lines -u keeps the first, as GNU does
