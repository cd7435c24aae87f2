mkdir d e; : > d/empty; printf 'xxxxx' > d/five; find d -empty; find d -type f -size +0; find . -type d -empty; find d -size 5c; find d -newer nope 2>/dev/null; echo $?
