/* What examples/idle does, as a native program: says so in a line and waits. With any argument it only waits, as pause does.
   It ends by SIGTERM, which a first process of a PID namespace has to ask for. */
#include <signal.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(int count, char **arguments) {
    (void)arguments;
    signal(SIGTERM, end);
    if (count == 1 && write(1, "idle\n", 5) != 5) return 1;
    for (;;) pause();
}
