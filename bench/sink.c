/*
 * sink - a webhook receiver that costs next to nothing: reads a POST, answers 204, keeps the connection.
 *
 *   sink DELAY     answers after DELAY milliseconds
 *
 * It prints the port it listens at. When its standard input ends it prints when each request had arrived, in nanoseconds of
 * CLOCK_MONOTONIC, one a line (the first MOST of them), and ends. It takes what a client of this benchmark sends: headers
 * within one buffer, a Content-Length, one request at a time on a connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 20, BUFFER = 16384, FDS = 20000 };

struct connection {
    size_t have;      /* bytes in the buffer */
    size_t body_left; /* bytes of the body that have not come yet, once the headers are read */
    char buffer[BUFFER];
};

struct answer {
    uint64_t due;
    int fd;
    uint32_t life; /* of the connection: a later one may have the same number */
};

static struct connection *connections[FDS];
static uint32_t lives[FDS];
static uint64_t arrivals[MOST];
static size_t count;
/* the delay is the same for all, so that the answers fall due in the order of the requests */
static struct answer waiting[MOST];
static size_t first, last;

static const char ok[] = "HTTP/1.1 204 No Content\r\n\r\n";

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void end(int fd) {
    free(connections[fd]);
    connections[fd] = NULL;
    lives[fd]++;
    close(fd);
}

static void answer(int fd) {
    if (send(fd, ok, sizeof ok - 1, MSG_NOSIGNAL) < 0) end(fd);
}

static void take(int fd, uint64_t delay) {
    struct connection *c = connections[fd];
    for (;;) {
        ssize_t got = recv(fd, c->buffer + c->have, BUFFER - 1 - c->have, MSG_DONTWAIT);
        if (got < 0) return;
        if (got == 0) {
            end(fd);
            return;
        }
        if (c->body_left) {
            if ((size_t)got > c->body_left) exit(1);
            c->body_left -= (size_t)got;
            if (c->body_left) continue;
        } else {
            c->have += (size_t)got;
            c->buffer[c->have] = 0;
            char *body = strstr(c->buffer, "\r\n\r\n"), *length = strcasestr(c->buffer, "\r\ncontent-length:");
            if (!body || !length) {
                if (c->have == BUFFER - 1) exit(1);
                continue;
            }
            size_t whole = (size_t)(body + 4 - c->buffer) + strtoul(length + 17, NULL, 10);
            if (whole < c->have) exit(1);
            c->body_left = whole - c->have;
            c->have = 0;
            if (c->body_left) continue;
        }
        uint64_t at = now();
        if (count < MOST) arrivals[count++] = at;
        if (delay) {
            waiting[last++ % MOST] = (struct answer){at + delay, fd, lives[fd]};
        } else {
            answer(fd);
        }
        return;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    uint64_t delay = (uint64_t)(atof(argv[1]) * 1e6);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    if (bind(listener, (struct sockaddr *)&where, size) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&where, &size);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
    struct epoll_event events[512];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &(struct epoll_event){.events = EPOLLIN, .data.fd = STDIN_FILENO});
    for (;;) {
        int ready = epoll_wait(poll, events, 512, first == last ? -1 : 1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO) {
                for (size_t n = 0; n < count; n++) printf("%llu\n", (unsigned long long)arrivals[n]);
                return 0;
            }
            if (fd == listener) {
                while ((fd = accept(listener, NULL, NULL)) >= 0) {
                    if (fd >= FDS) return 1;
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    connections[fd] = calloc(1, sizeof(struct connection));
                    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
                }
            } else {
                take(fd, delay);
            }
        }
        for (uint64_t at = first == last ? 0 : now(); first != last && waiting[first % MOST].due <= at; first++) {
            struct answer *a = &waiting[first % MOST];
            if (lives[a->fd] == a->life) answer(a->fd);
        }
    }
}
