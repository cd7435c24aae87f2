# reference: ash
cat < nope 2>&1; echo x 2>&1 > no/dir; sh -c 'cat < nope' 2>&1; sh -c 'echo > no/dir' 2>&1
