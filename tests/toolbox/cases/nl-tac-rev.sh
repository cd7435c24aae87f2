printf 'a\n\nb\n' > f; nl f; nl -b a f; tac f; rev f; seq 3 | tac
