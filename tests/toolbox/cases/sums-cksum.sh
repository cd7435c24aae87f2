printf abc | cksum; seq 100 > f; cksum f
# differs: Debian's busybox has no cksum; GNU's gives the same numbers
