mkdir -p a/b; touch a/b/c .x; ls a/b; ls -a a; ls .x; ls -d .*
