true &&
echo a |
cat ||
echo b
