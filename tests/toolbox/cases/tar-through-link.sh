mkdir a b out outside; ln -s ../outside a/l; mkdir b/l; echo evil > b/l/inside; tar cf a.tar -C a l; tar cf b.tar -C b l/inside; tar xf a.tar -C out; tar xf b.tar -C out 2>/dev/null; ls outside
# differs: nothing is written through a link that an archive may have made; busybox writes
