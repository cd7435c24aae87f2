for w in $(printf 'b a b c b a'); do echo $w; done | sort | uniq -c | sort -k1,1nr -k2 | while read n w; do echo "$w:$n"; done
