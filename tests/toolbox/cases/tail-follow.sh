(echo 1; sleep 0.3; echo 2) > f & sleep 0.1; tail -f f | head -n 2; echo done
