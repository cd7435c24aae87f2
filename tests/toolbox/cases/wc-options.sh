printf 'one two\nthree\n' > f; wc f; wc -l f; wc -w < f; wc -c f; wc -l -w f; wc -L f; printf 'no nl' | wc -l; echo > g; wc f g
