/*
 * floor - the least that a WebSocket fan-out can cost: accept, answer the handshake, then a loop of send().
 *
 *   floor RATE BURST SIZE     RATE times a second every connection gets BURST frames of SIZE bytes in one send()
 *
 * It prints the port it listens at, and ends with its standard input. It knows one key only: the one that wsload sends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 20000 };
static int fds[MOST], count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void take(int listener) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char request[8192];
    int one = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (count == MOST || recv(fd, request, sizeof request, 0) <= 0 ||
        send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) {
        close(fd);
        return;
    }
    fds[count++] = fd;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    double step = 1 / atof(argv[1]), due = 0;
    size_t burst = strtoul(argv[2], NULL, 10), size = strtoul(argv[3], NULL, 10), at = 0;
    unsigned char *frames = malloc(burst * (size + 4));
    for (size_t i = 0; i < burst; i++) {
        frames[at++] = 0x81;
        frames[at++] = 126;
        frames[at++] = (unsigned char)(size >> 8);
        frames[at++] = (unsigned char)size;
        memset(frames + at, 'x', size);
        at += size;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1024)) return 1;
    getsockname(listener, (void *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct pollfd polled[2] = {{.fd = listener, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    for (due = now() + step;;) {
        double left = due - now();
        if (left > 0) {
            if (poll(polled, 2, (int)(left * 1000)) > 0) {
                if (polled[1].revents) return 0;
                take(listener);
            }
            continue;
        }
        due += step;
        if (due < now()) due = now() + step;
        for (int i = 0; i < count; i++)
            if (send(fds[i], frames, at, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
                close(fds[i]);
                fds[i--] = fds[--count];
            }
    }
}
