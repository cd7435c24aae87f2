# reference: ash
cd nope 2>&1; echo $?
# differs: says why
