mkdir d; printf x > d/f; du -s nope 2>/dev/null; echo $?; du d | wc -l; du -a d | wc -l; du -s d | cut -f2
