touch -d '2020-01-01 00:00' old; touch -d '2021-01-01 00:00' new; echo xxx > big; touch -d '2019-01-01 00:00' big; ls -t; ls -tr; ls -S | head -1; ls nope 2>/dev/null; echo $?
