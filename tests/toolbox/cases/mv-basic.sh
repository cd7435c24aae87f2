echo x > a; mv a b; ls; mkdir d; mv b d; ls d; mv d e; ls e; mv nope x 2>/dev/null; echo $?; echo y > c; mv -f c e/b; cat e/b; touch x y; mv x y e; ls e
