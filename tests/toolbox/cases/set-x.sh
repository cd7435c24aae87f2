# reference: ash
(set -x; x=1; echo $x 'a b'; true) 2>&1
