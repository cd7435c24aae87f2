[ -d /tmp ] && ls / >/dev/null && echo healthy || exit 1
