[ -n "$(hostname)" ] && echo h; [ -n "$(uname)" ] && echo u; [ "$(uname -n)" = "$(hostname)" ] && echo same
