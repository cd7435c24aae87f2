# reference: ash
cd nope 2>&1; echo $?
# differs: dash and ash name the line in which it stands
