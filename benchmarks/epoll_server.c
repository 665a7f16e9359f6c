/* The limit: an echo server in C, one thread, one epoll.
 *
 *   epoll_server tcp_echo|udp_echo      listens on a free port of 127.0.0.1, and prints it
 *
 * Level-triggered, 64 kB a read. What a peer does not take is kept, and nothing more is read
 * from it until it does.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
    int fd;
    size_t begin, end; /* of what waits in kept */
    char *kept;
};

static char buffer[262144];  /* as all: see peers/common.py */
static int epoll;

static void check(int bad, const char *what) {
    if (bad) {
        perror(what);
        exit(1);
    }
}

static void watch(int op, struct peer *peer, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    check(epoll_ctl(epoll, op, peer->fd, &event) < 0, "epoll_ctl");
}

static struct peer *new_peer(int fd) {
    struct peer *peer = calloc(1, sizeof *peer);
    check(!peer, "calloc");
    peer->fd = fd;
    watch(EPOLL_CTL_ADD, peer, EPOLLIN);
    return peer;
}

static void accept_all(int listener) {
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        new_peer(fd);
    }
}

static void end(struct peer *peer) {
    close(peer->fd);
    free(peer->kept);
    free(peer);
}

/* Keep what is left of the buffer, and wait until the peer takes it. */
static void keep(struct peer *peer, const char *data, size_t size) {
    if (!peer->kept)
        check(!(peer->kept = malloc(sizeof buffer)), "malloc");
    memcpy(peer->kept, data, size);
    peer->begin = 0;
    peer->end = size;
    watch(EPOLL_CTL_MOD, peer, EPOLLOUT);
}

static void flush(struct peer *peer) {
    ssize_t n = send(peer->fd, peer->kept + peer->begin, peer->end - peer->begin, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        end(peer);
        return;
    }
    peer->begin += n > 0 ? (size_t)n : 0;
    if (peer->begin == peer->end)
        watch(EPOLL_CTL_MOD, peer, EPOLLIN);
}

static void echo(struct peer *peer) {
    ssize_t size = recv(peer->fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    ssize_t sent = size > 0 ? send(peer->fd, buffer, (size_t)size, MSG_NOSIGNAL) : 0;
    if (size <= 0 || (sent < 0 && errno != EAGAIN)) {
        end(peer);
        return;
    }
    if (sent < size)
        keep(peer, buffer + (sent > 0 ? sent : 0), (size_t)(size - (sent > 0 ? sent : 0)));
}

static void echo_datagrams(int fd) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t size;
    while ((size = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length)) >= 0)
        sendto(fd, buffer, (size_t)size, 0, (struct sockaddr *)&from, length);
}

int main(int argc, char **argv) {
    int udp = argc == 2 && !strcmp(argv[1], "udp_echo");
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof addr;
    struct epoll_event events[256];
    int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    check(fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr), "bind");
    check(!udp && listen(fd, 1024), "listen");
    check(getsockname(fd, (struct sockaddr *)&addr, &length), "getsockname");
    check((epoll = epoll_create1(0)) < 0, "epoll_create1");
    struct peer *own = new_peer(fd);
    printf("{\"port\": %d}\n", ntohs(addr.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer == own)
                udp ? echo_datagrams(fd) : accept_all(fd);
            else if (events[i].events & EPOLLOUT)
                flush(peer);
            else
                echo(peer);
        }
    }
}
