seq 6 > f; sed -n 'n;p' f; sed 'N;s/\n/ /' f; sed '$!N;P;D' f; sed 'N;N;s/\n/+/g' f
