echo $LINENO
# differs: Debian's dash has no LINENO
