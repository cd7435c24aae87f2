touch -d '2020-01-01 00:00:00' old; touch -d '2021-01-01 00:00:00' new; [ new -nt old ] && echo nt; [ old -ot new ] && echo ot; [ old -ef old ] && echo ef
