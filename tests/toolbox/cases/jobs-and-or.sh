(true && echo bg) & wait; { sleep 0.1; echo group; } & wait $!
