(set -e; x=$(false); echo no); echo $?; (set -e; echo $(false) yes); echo $?
