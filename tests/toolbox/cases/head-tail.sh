seq 20 > f; head -n 3 f; head -n -17 f; head -c 5 f; tail -n 2 f; tail -n +19 f; tail -c 3 f; head -2 f; tail -1 f; seq 3 | tail -n +2
