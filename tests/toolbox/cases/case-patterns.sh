case 'a*b' in 'a*b') echo literal;; esac; x='*'; case foo in $x) echo glob;; esac; case foo in "$x") echo no;; *) echo quoted;; esac; case '' in '') echo empty;; esac
