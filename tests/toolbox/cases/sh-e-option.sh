sh -ec 'false; echo no'; echo $?; sh -c 'set -o' | grep -c errexit
