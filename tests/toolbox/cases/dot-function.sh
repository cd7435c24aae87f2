echo 'f() { echo from file; }' > lib; . ./lib; f
