# reference: ash
echo -n a; echo; echo -e 'x\ty\n\0101'; echo 'a\tb'; echo -ne 'q\c r'; echo; echo -E 'a\n'; echo -x; echo -- a; echo - b
