f() { echo out; echo err >&2; } >file 2>&1; f; cat file
