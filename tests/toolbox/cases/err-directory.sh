# reference: ash
mkdir d; ./d 2>&1; echo $?
