printf abc | sha256sum; printf abc > f; sha256sum f > s; sha256sum -c s; md5sum f; md5sum f | md5sum -c; echo x >> f; sha256sum -c s 2>/dev/null; echo $?; printf abc | sha512sum | cut -c1-20
