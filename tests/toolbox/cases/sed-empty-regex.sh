echo foofoo | sed '/foo/s//bar/'; echo aXb | sed 's/x*/-/g'; echo abc | sed 's/$/!/;s/^/>/'; echo hello | sed 's/l*/L/2'
