x='1 2'; set -- a$x"$x"b; printf '<%s>' "$@"; echo
