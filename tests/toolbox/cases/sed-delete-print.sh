printf 'a\nb\nc\n' > f; sed /b/d f; sed -n /b/p f; sed p f; sed -n 'p;p' f; sed 2q f; sed -n '2{p;q}' f; sed '$!d' f
