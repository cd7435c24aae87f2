# reference: ash
sh -c 'readonly r=1; r=2; echo no' 2>&1; echo $?
