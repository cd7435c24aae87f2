echo ab\
cd "x\
y"
