(sleep 0.2; echo second) & echo first; wait; echo third
