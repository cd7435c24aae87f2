for c in a 5 ' ' _ Z; do case $c in [[:digit:]]) echo digit;; [[:upper:]]) echo upper;; [a-z]) echo lower;; [!a-z]) echo other;; esac; done
