sleep 5 & p=$!; kill $p; wait $p; echo $?; (exit 7) & wait $!; echo $?
