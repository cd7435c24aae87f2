mkdir d; touch d/a.o d/b.c d/c.o; echo '*.o' > no; tar cf x.tar -X no d; tar tf x.tar; tar cf y.tar d; mkdir o; tar xf y.tar -C o d/b.c; ls o/d; tar tvf y.tar | wc -l
# differs: Debian's busybox has neither -X nor --exclude
