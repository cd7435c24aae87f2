true; echo $?; false; echo $?; set -e; case $- in *e*) echo has-e;; esac; echo $#
