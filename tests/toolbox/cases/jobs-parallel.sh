(sleep 0.3; echo 3) & (sleep 0.1; echo 1) & (sleep 0.2; echo 2) & wait
