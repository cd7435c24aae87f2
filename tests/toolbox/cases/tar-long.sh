n=$(printf 'x%.0s' $(seq 60)); mkdir -p $n/$n; echo deep > $n/$n/$n; tar cf a.tar $n; mkdir o; tar xf a.tar -C o; cat o/$n/$n/$n
