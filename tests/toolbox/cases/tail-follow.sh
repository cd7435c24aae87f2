: > f; (echo 1; sleep 0.2; echo 2) > f & tail -f f & p=$!; sleep 2.5; kill $p; wait $p; echo done
