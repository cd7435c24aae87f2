# reference: ash
ls --nosuch >/dev/null 2>&1; [ $? -ne 0 ] && echo bad; mkdir >/dev/null 2>&1; [ $? -ne 0 ] && echo bad; cp a >/dev/null 2>&1; [ $? -ne 0 ] && echo bad
