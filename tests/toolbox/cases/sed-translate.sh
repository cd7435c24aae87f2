echo hello | sed 'y/elo/ipa/'; echo 'a/b' | sed 'y,/,-,'; printf 'a\nb\n' | sed = 
