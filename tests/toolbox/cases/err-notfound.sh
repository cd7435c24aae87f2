# reference: ash
nosuch 2>&1; echo $?; ./nosuch 2>&1; echo $?; /no/such 2>&1; echo $?
