basename /a/b/c; basename a.txt .txt; basename /; basename a/; dirname /a/b/c; dirname a; dirname /a; dirname a/b/; dirname /
