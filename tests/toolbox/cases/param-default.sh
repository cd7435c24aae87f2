unset x; y=; echo "${x:-a}" "${x-b}" "${y:-c}" "[${y-d}]"
