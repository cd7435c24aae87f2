# reference: ash
set -o pipefail; yes | head -1; echo $?
