cat > lib.sh <<'E'
log() { printf '%s: %s\n' "$1" "$2"; }
die() { log fatal "$1"; exit ${2:-1}; }
E
. ./lib.sh; log info start; (die oops 9); echo $?
