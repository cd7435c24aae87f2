echo $LINENO
# differs: the prelude's line counts
