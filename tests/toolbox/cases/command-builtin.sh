command -v cd; command -v if; f() { :; }; command -v f; command -v nosuchthing; echo $?; command echo via
