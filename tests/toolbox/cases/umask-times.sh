umask; times | wc -l
