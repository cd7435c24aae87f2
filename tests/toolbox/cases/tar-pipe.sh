mkdir s t; echo data > s/f; tar cf - s | tar xf - -C t; cat t/s/f; tar czf z.tgz s; tar tzf z.tgz; mkdir u; tar xmf - -C u < z.tgz 2>/dev/null || tar xzf z.tgz -C u; cat u/s/f; tar c s | tar t
