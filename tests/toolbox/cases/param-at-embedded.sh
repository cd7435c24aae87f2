set -- 1 2 3; printf '<%s>' "x$@y"; echo; set --; printf '<%s>' "x$@y"; echo; printf '<%s>' "$@"; echo
