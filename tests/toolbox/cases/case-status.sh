case x in y) false;; esac; echo $?; case x in x) false;; esac; echo $?
