printf 'a\nb\n' > f; sed 'a\
after' f; sed '1i\
before' f; sed '2c\
changed' f; sed '1a one line' f; sed 'i\  indented' f
