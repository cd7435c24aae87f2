yes | head -2; yes abc | head -n 1; while :; do echo loop; done | head -1
