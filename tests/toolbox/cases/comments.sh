echo a # comment
# whole line
echo b#not; echo '#' \# c
