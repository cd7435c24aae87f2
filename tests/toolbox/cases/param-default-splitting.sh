x=; set -- ${x:-a b "c d"}; echo $#; printf '<%s>' "$@"; echo
