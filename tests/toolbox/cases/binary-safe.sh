printf '\377\200x' > f; x=$(cat f); printf '%s' "$x" | od -An -tx1
