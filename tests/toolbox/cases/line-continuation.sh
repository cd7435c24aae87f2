if true \
  && true; then echo yes; fi; echo a; echo b;
