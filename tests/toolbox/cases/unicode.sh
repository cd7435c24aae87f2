x='äöü€'; echo "$x"; case ä in ?) echo one;; *) echo many;; esac; echo ${x#ä}
# differs: characters are counted, not bytes, as in a UTF-8 shell
