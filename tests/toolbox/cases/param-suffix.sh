x=/usr/local/lib/x.tar.gz; echo ${x%.*} ${x%%.*} ${x%/*} ${x%nope}
