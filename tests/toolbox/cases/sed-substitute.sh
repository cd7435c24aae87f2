echo 'hello world' | sed 's/o/0/'; echo 'hello world' | sed 's/o/0/g'; echo 'hello world' | sed 's/o/0/2'; echo 'a/b' | sed 's|/|-|'; echo abc | sed 's/b/[&]/'; echo abc | sed 's/b/\&/'
