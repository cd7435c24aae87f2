mkdir d; touch b a .h d/x; ls; ls -a; ls -A; ls -1; ls d; ls -d d; ls a d; ls -F; ls -r; ls -R
