for i in a 'b c' d; do echo "$i"; done; for i in; do echo never; done; echo $?
