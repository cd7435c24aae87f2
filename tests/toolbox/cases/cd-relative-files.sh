mkdir d; cd d; echo x > f; cd ..; cat d/f; (cd d && ls)
