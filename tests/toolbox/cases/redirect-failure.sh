# reference: ash
cat < nope 2>/dev/null; echo $?; (: < nope; echo no) 2>/dev/null; echo $?; echo x > nodir/f 2>/dev/null || echo failed
