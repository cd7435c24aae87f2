sh -c 'echo $0 $1 $#' zero one two; sh -c 'echo "$@"' x 'a b' c
