(set -e; false | true; echo yes; true | false; echo no); echo $?
