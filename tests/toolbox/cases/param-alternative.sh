x=1; y=; unset z; echo "${x:+a}" "[${y:+b}]" "${y+c}" "[${z+d}]"
