printf 'the quick the lazy the\n' | tr ' ' '\n' | sort | uniq -c | sort -rn | head -1 | sed 's/^ *//'
