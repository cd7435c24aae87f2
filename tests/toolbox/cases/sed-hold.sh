printf '1\n2\n3\n' > f; sed -n '1!G;h;$p' f; sed G f; sed -n 'H;${x;s/\n/,/g;p}' f; sed 'x;1d' f
