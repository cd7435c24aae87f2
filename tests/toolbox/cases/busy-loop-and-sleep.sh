(while :; do :; done) & p=$!; sleep 0.2; kill $p; echo alive
