echo abc | tr a-c x-z | rev; seq 10 | head -3 | tail -1; echo a | cat | cat | cat
