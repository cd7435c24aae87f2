// Sockets of WASI 0.1 as C has them: by wasi-libc's accept, recv, send and poll, and by the calls themselves.
//
//   net serve [IDLE]   sends back what comes, on all sockets, with poll over all connections; none of them blocks. Says `idle`
//                      and ends when nothing has happened for IDLE milliseconds
//   net calls          asks each call for what it should do and what it should refuse; see tests/suite/preview1_sockets.rs
//   net last           says the last word: closes its side first, and then reads what the client has left to say

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>

#define MOST 512
#define BUFFER 16384

struct connection {
    char *bytes;
    size_t from, to;
    int ended;
};

static struct pollfd polled[MOST];
static struct connection connections[MOST];
static nfds_t count;

static int accepted(int listener) {
    struct sockaddr address;
    socklen_t length = sizeof address;
    return accept4(listener, &address, &length, SOCK_NONBLOCK);
}

static void drop(nfds_t index) {
    close(polled[index].fd);
    free(connections[index].bytes);
    count--;
    polled[index] = polled[count];
    connections[index] = connections[count];
}

// Returns whether the connection goes on.
static int copy(struct pollfd *entry, struct connection *connection) {
    if (connection->from == connection->to) {
        if (entry->revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t got = recv(entry->fd, connection->bytes, BUFFER, 0);
            if (got < 0)
                return errno == EAGAIN;
            connection->from = 0;
            connection->to = (size_t)got;
            connection->ended = got == 0;
        }
    }
    while (connection->from < connection->to) {
        ssize_t sent = send(entry->fd, connection->bytes + connection->from, connection->to - connection->from, 0);
        if (sent < 0) {
            if (errno != EAGAIN)
                return 0;
            entry->events = POLLOUT;
            return 1;
        }
        connection->from += (size_t)sent;
    }
    entry->events = POLLIN;
    return !connection->ended;
}

static int serve(int idle) {
    const char *told = getenv("LISTEN_FDS");
    nfds_t listeners = told ? (nfds_t)atoi(told) : 0;
    for (count = 0; count < listeners; count++) {
        polled[count].fd = 3 + (int)count;
        polled[count].events = POLLIN;
        if (fcntl(polled[count].fd, F_SETFL, O_NONBLOCK) != 0)
            return 1;
    }
    puts("ready");
    for (;;) {
        int ready = poll(polled, count, idle);
        if (ready < 0) {
            printf("poll: %d\n", errno);
            return 1;
        }
        if (ready == 0) {
            printf("idle with %d connections\n", (int)(count - listeners));
            return 0;
        }
        for (nfds_t index = count; index-- > listeners;)
            if (polled[index].revents && !copy(&polled[index], &connections[index]))
                drop(index);
        for (nfds_t index = 0; index < listeners; index++)
            for (int fd; polled[index].revents && count < MOST && (fd = accepted(polled[index].fd)) >= 0;) {
                polled[count].fd = fd;
                polled[count].events = POLLIN;
                polled[count].revents = 0;
                connections[count] = (struct connection){.bytes = malloc(BUFFER)};
                count++;
            }
    }
}

static void say(const char *what, int number) { printf("%s: %d\n", what, number); }

static int prestat(int fd, int *tag) {
    __wasi_prestat_t found;
    memset(&found, 0xff, sizeof found);
    int error = __wasi_fd_prestat_get(fd, &found);
    *tag = error ? -1 : found.tag;
    return error;
}

static int take(int fd, void *bytes, size_t length, int flags) {
    __wasi_iovec_t vector = {bytes, length};
    __wasi_size_t got = 0;
    __wasi_roflags_t told = 0xffff;
    int error = __wasi_sock_recv(fd, &vector, 1, (__wasi_riflags_t)flags, &got, &told);
    if (error)
        return -error;
    return told ? -1000 : (int)got;
}

static int give(int fd, const char *text, int flags) {
    __wasi_ciovec_t halves[] = {
        {(const uint8_t *)text, strlen(text) / 2},
        {0, 0},
        {(const uint8_t *)text + strlen(text) / 2, strlen(text) - strlen(text) / 2},
    };
    __wasi_size_t sent = 0;
    int error = __wasi_sock_send(fd, halves, 3, (__wasi_siflags_t)flags, &sent);
    return error ? -error : (int)sent;
}

static int accept_now(int fd, int flags) {
    __wasi_fd_t found = 0;
    int error = __wasi_sock_accept(fd, (__wasi_fdflags_t)flags, &found);
    return error ? -error : (int)found;
}

// Two ports are declared: 3 and 4 are sockets, 5 is the root.
static int calls(void) {
    int tag;
    for (int fd = 3; fd < 7; fd++) {
        int error = prestat(fd, &tag);
        printf("prestat of %d: %d, tag %d\n", fd, error, tag);
    }
    __wasi_fdstat_t status;
    say("fdstat", __wasi_fd_fdstat_get(4, &status));
    printf("type %d, flags %d, may accept %d\n", status.fs_filetype, status.fs_flags,
           (status.fs_rights_base & __WASI_RIGHTS_SOCK_ACCEPT) != 0);
    say("accept of what was asked for its flags", accept_now(4, 0));
    say("accept of a directory", accept_now(5, 0));
    say("accept of an input", accept_now(0, 0));
    say("accept of nothing", accept_now(99, 0));
    say("accept of a negative number", accept_now(-1, 0));
    say("accept with flags of files", accept_now(3, __WASI_FDFLAGS_APPEND));
    __wasi_filesize_t position;
    say("seek", __wasi_fd_seek(3, 0, __WASI_WHENCE_SET, &position));
    say("tell", __wasi_fd_tell(3, &position));
    __wasi_size_t size;
    say("readdir", __wasi_fd_readdir(3, (uint8_t *)&status, sizeof status, 0, &size));
    say("sync", __wasi_fd_sync(3));
    __wasi_fd_t opened;
    say("open below a socket", __wasi_path_open(3, 0, "etc", 0, 0, 0, 0, &opened));
    say("open below nothing", __wasi_path_open(99, 0, "etc", 0, 0, 0, 0, &opened));
    char bytes[64] = {0};
    say("recv of a listener", take(3, bytes, 1, 0));
    say("recv of a directory", take(5, bytes, 1, 0));
    say("send to nothing", give(99, "text", 0));
    say("shutdown of a directory", __wasi_sock_shutdown(5, __WASI_SDFLAGS_RD));
    struct stat found;
    say("stat", fstat(3, &found) == 0 && S_ISSOCK(found.st_mode));
    fflush(stdout);

    // The client says `hello world` and waits for an answer.
    int first = accept_now(3, 0);
    say("accepted", first);
    say("prestat of a connection", prestat(first, &tag));
    say("peek", take(first, bytes, 5, __WASI_RIFLAGS_RECV_PEEK));
    say("recv of all", take(first, bytes, 11, __WASI_RIFLAGS_RECV_WAITALL));
    puts(bytes);
    say("recv with unknown flags", take(first, bytes, 1, 4));
    say("recv into nothing", take(first, bytes, 0, 0));
    say("send with flags", give(first, "text", 1));
    say("shutdown of no direction", __wasi_sock_shutdown(first, 0));
    say("set flags", __wasi_fd_fdstat_set_flags(first, __WASI_FDFLAGS_NONBLOCK));
    say("set unknown flags", __wasi_fd_fdstat_set_flags(first, 1 << 5));
    say("recv before there is more", take(first, bytes, 1, 0));
    struct pollfd wait = {.fd = first, .events = POLLIN};
    say("poll until its time is over", poll(&wait, 1, 20));
    wait.events = POLLIN | POLLOUT;
    say("poll", poll(&wait, 1, -1));
    say("can be written", (wait.revents & POLLOUT) != 0);
    say("can be read", (wait.revents & POLLIN) != 0);
    wait.fd = 77;
    say("poll of nothing", poll(&wait, 1, -1));
    say("is nothing", (wait.revents & POLLNVAL) != 0);
    say("send", give(first, "answer\n", 0));
    say("shutdown", __wasi_sock_shutdown(first, __WASI_SDFLAGS_WR));
    say("send after that", give(first, "text", 0));
    fflush(stdout);
    wait.fd = first;
    wait.events = POLLIN;
    say("poll for the end", poll(&wait, 1, -1));
    say("recv at the end", take(first, bytes, 1, 0));

    // A second client, whose connection takes the place of the other listener.
    int second = accept_now(3, __WASI_FDFLAGS_NONBLOCK);
    say("the next is", second);
    say("its flags", fcntl(second, F_GETFL) & O_NONBLOCK ? 1 : 0);
    say("renumber to what is not open", __wasi_fd_renumber(second, 50));
    say("renumber", __wasi_fd_renumber(second, 4));
    say("send by the old number", give(second, "text", 0));
    say("send by the new", give(4, "renumbered\n", 0));
    say("close", close(4));
    say("close again", __wasi_fd_close(4));
    say("a file is", open("/etc/hosts", O_RDONLY));
    say("another is", open("/etc/hosts", O_RDONLY));
    return 0;
}

static int last(void) {
    puts("ready");
    fflush(stdout);
    int fd = accept_now(3, 0);
    give(fd, "that was all\n", 0);
    if (shutdown(fd, SHUT_WR) != 0)
        return 1;
    static char bytes[BUFFER];
    size_t sum = 0;
    for (ssize_t got; (got = read(fd, bytes, sizeof bytes)) != 0; sum += (size_t)got)
        if (got < 0)
            return 1;
    printf("read %zu bytes after that\n", sum);
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 2 && strcmp(argv[1], "serve") == 0)
        return serve(argc > 2 ? atoi(argv[2]) : -1);
    if (argc == 2 && strcmp(argv[1], "calls") == 0)
        return calls();
    if (argc == 2 && strcmp(argv[1], "last") == 0)
        return last();
    fputs("usage: net serve [IDLE] | calls | last\n", stderr);
    return 2;
}
