printf 'echo file $0 $1\nexit 6\n' > s.sh; sh s.sh arg; echo $?; sh ./s.sh | sed 's/.*file/file/'
