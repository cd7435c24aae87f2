f() { return 3; echo no; }; f; echo $?; g() { false; }; g; echo $?; h() { for i in 1 2; do return $i; done; }; h; echo $?
