echo $LINENO
# differs: dash counts from 1 after a line that ends in a `||` list; the toolbox gives the line of the command
