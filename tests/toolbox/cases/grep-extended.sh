printf 'foo\nbar\nfoobar\nbaz12\n' > f; grep -E 'foo|baz' f; grep -E '^(foo|bar)$' f; grep -E '[0-9]{2}' f; grep -E 'o{2}b?' f; egrep 'ba[rz]' f; grep -E '(ba)(r|z)' f
