type cd; type if; f() { :; }; type f | head -1
