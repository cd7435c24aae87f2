echo() { printf 'mine %s\n' "$*"; }; echo hi; unset -f echo; echo hi; command echo x
