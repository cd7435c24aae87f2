# reference: ash
sh -c 'echo ${x?}' 2>&1; sh -c 'echo ${x:?msg here}' 2>&1; sh -c 'set -u; echo $y' 2>&1
