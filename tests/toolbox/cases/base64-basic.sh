echo hello world | base64; echo aGVsbG8gd29ybGQK | base64 -d; seq 100 | base64 | head -2; seq 100 | base64 -w 0 | wc -c; seq 100 | base64 | base64 -d | tail -1
