touch a.c b.c .h c.txt; mkdir d; touch d/e.c; echo *; echo *.c; echo */*.c; echo .h*
