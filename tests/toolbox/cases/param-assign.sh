unset x; echo "${x:=v}" "$x"; y=; echo "[${y=w}]" "${y:=z}" "$y"
