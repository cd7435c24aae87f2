x=5; printf '%s\n' "a  b $x \$x \"q\" \\ \z"
