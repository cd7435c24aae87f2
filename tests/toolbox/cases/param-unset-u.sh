(set -u; echo ${nope-ok}; echo $nope; echo not) 2>/dev/null; echo $?
