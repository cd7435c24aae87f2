for x in foo bar baz qux; do case $x in f*) echo f;; b?r|zzz) echo bar;; (baz) echo paren;; *) echo other;; esac; done
