x=val; cat <<'E'
a $x $(echo) \$x
E
cat <<\F
$x
F
