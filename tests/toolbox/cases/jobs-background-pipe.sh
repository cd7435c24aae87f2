echo x | tr x y & wait; (echo a; sleep 0.1; echo b) | while read l; do echo got $l; done
