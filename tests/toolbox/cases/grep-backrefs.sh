printf 'abab\nabba\naa\nxyzxyz\n' > f; grep '\(ab\)\1' f; grep -E '(.)\1' f; grep '^\(.*\)\1$' f
