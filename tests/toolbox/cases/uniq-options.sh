printf 'a\na\nb\nc\nc\nc\n' > f; uniq f; uniq -c f; uniq -d f; uniq -u f; printf 'A\na\nb\n' | uniq -i; printf '1 x\n2 x\n3 y\n' | uniq -f1
