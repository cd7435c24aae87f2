x=/usr/local/lib/x.tar.gz; echo ${x#*/} ${x##*/} ${x#/usr} ${x#nope}
