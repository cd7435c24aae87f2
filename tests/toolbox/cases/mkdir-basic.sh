mkdir a b; ls; mkdir a 2>/dev/null; echo $?; mkdir -p a/b/c a; find a; mkdir x/y 2>/dev/null; echo $?; touch f; mkdir f/x 2>/dev/null; echo $?; mkdir -p f 2>/dev/null; echo $?
