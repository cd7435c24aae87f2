printf 'aXbXc\n' | sed ':a;s/X/-/;ta'; printf 'a\\\nb\nc\n' | sed -e ':a' -e '/\\$/N; s/\\\n//; ta'; echo abc | sed 's/a/x/;t end;s/b/y/;:end'; echo zbc | sed 's/a/x/;t end
s/b/y/
:end'
