/* The client side of the network benchmarks, in C so that it is not what is measured.
 *
 *   load echo  tcp|udp PORT [-c connections] [-s size] [-t seconds] [-n messages] [-p pid]
 *   load http  PORT [-c connections] [-t seconds] [-n requests] [-p pid]
 *   load flood PORT [-s size] [-t seconds] [-p pid]
 *   load idle  PORT [-c connections]
 *
 * All of it on 127.0.0.1, in one thread, with epoll. Prints one line of JSON.
 *
 * echo: every connection has one message under way. Counted are the messages that came back
 *   within the window, which begins when a fifth of its length has passed as warm-up.
 * http: the same with a GET of /, whose answers must all be as long as the first one.
 * flood: datagrams as fast as the receiver takes them. It answers every ACK_EVERY of them with
 *   one datagram, and the sender is never more than AHEAD before it: less than the smallest
 *   usual receive buffer holds, so nothing is lost, and all receivers are measured at that loss.
 * idle: connects, has one byte echoed on each connection, says "connected", and holds them until
 *   standard input ends.
 *
 * With -p, the CPU time that process used in the window is reported too.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ACK_EVERY = 64, AHEAD = 256, CONNECT_AT_ONCE = 64, CHUNK = 256 * 1024 };

struct client {
    int fd;
    size_t unsent, unread;
    int64_t began;
};

static struct options {
    bool udp;
    int port, connections;
    size_t size;
    size_t answer; /* to a message; 0: as long as that */
    double seconds;
    long messages; /* 0: no limit */
    pid_t pid;     /* 0: nobody's CPU time is asked for */
} opt = {.connections = 1, .size = 64, .seconds = 1};

static char *out, in[CHUNK];

static struct {
    uint32_t *ns; /* one per message */
    size_t count, room;
} latencies;

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void *need(void *memory) {
    if (!memory)
        die("out of memory");
    return memory;
}

static int64_t read_clock(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t))
        die("clock_gettime: %s", strerror(errno));
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

static int64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

/* The CPU time of all threads of the server, in ns, far finer than the ticks of /proc. */
static int64_t server_cpu(void) {
    clockid_t clock;
    if (!opt.pid)
        return 0;
    if (clock_getcpuclockid(opt.pid, &clock))
        die("no process %d", (int)opt.pid);
    return read_clock(clock);
}

static int open_socket(void) {
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)opt.port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 30}; /* with a server that hangs */
    int one = 1, fd = socket(AF_INET, opt.udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr))
        die("connect: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (!opt.udp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Connect few at a time and wait until they are served: no listen queue overflows. */
static struct client *open_clients(void) {
    struct client *clients = need(calloc((size_t)opt.connections, sizeof *clients));
    for (int done = 0; done < opt.connections;) {
        int end = done + CONNECT_AT_ONCE;
        if (end > opt.connections)
            end = opt.connections;
        for (int i = done; i < end; i++) {
            clients[i].fd = open_socket();
            size_t size = opt.answer ? opt.size : 1;
            if (send(clients[i].fd, out, size, 0) != (ssize_t)size)
                die("send: %s", strerror(errno));
        }
        for (; done < end; done++) {
            size_t size = opt.answer ? opt.answer : 1;
            if (recv(clients[done].fd, in, size, MSG_WAITALL) != (ssize_t)size)
                die("no answer on connection %d", done);
        }
    }
    return clients;
}

static void push_out(struct client *c) {
    while (c->unsent) {
        ssize_t n = send(c->fd, out + opt.size - c->unsent, c->unsent, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("send: %s", strerror(errno));
        c->unsent -= (size_t)n;
    }
}

static void begin_message(struct client *c) {
    c->unsent = opt.size;
    c->unread = opt.answer ? opt.answer : opt.size;
    c->began = now();
    push_out(c);
}

static void end_message(struct client *c) {
    if (latencies.count == latencies.room) {
        latencies.room = latencies.room ? 2 * latencies.room : 1 << 16;
        latencies.ns = need(realloc(latencies.ns, latencies.room * sizeof *latencies.ns));
    }
    int64_t took = now() - c->began;
    latencies.ns[latencies.count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    begin_message(c);
}

/* Edge-triggered: what can be written and read is, and a short read means there is no more. */
static void on_event(struct client *c) {
    push_out(c);
    while (c->unread) {
        size_t want = c->unread < CHUNK ? c->unread : CHUNK;
        ssize_t n = recv(c->fd, in, want, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            die("recv: %s", n ? strerror(errno) : "closed by the server");
        c->unread -= (size_t)n;
        if (!c->unread) {
            end_message(c);
            return;
        }
        if ((size_t)n < want)
            return;
    }
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(double part) {
    size_t last = latencies.count - 1;
    return latencies.ns[(size_t)((double)last * part)] / 1e3;
}

static void report_rate(size_t messages, int64_t took, int64_t cpu, long lost) {
    if (!messages)
        die("nothing came back");
    printf("{\"rate\": %.1f, \"lost\": %ld", (double)messages / ((double)took / 1e9), lost);
    if (opt.pid)
        printf(", \"cpu_us\": %.4f", (double)cpu / 1e3 / (double)messages);
}

static void echo(void) {
    struct client *clients = open_clients();
    struct epoll_event events[256];
    int epoll = epoll_create1(0);
    if (epoll < 0)
        die("epoll_create1: %s", strerror(errno));
    for (int i = 0; i < opt.connections; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                    .data.ptr = &clients[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event))
            die("epoll_ctl: %s", strerror(errno));
        begin_message(&clients[i]);
    }
    int64_t length = (int64_t)(opt.seconds * 1e9), start = now() + length / 5, cpu = 0, at;
    bool warm = false;
    long lost = 0;
    for (;;) {
        int n = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr);
        /* A datagram may get lost; with as few as are under way, hardly one ever does. */
        for (int i = 0; n == 0 && opt.udp && i < opt.connections; i++, lost++)
            begin_message(&clients[i]);
        at = now();
        if (!warm && at >= start) {
            warm = true;
            start = at;
            cpu = server_cpu();
            latencies.count = 0;
        }
        if (warm && (at >= start + length ||
                     (opt.messages && latencies.count >= (size_t)opt.messages)))
            break;
    }
    cpu = server_cpu() - cpu;
    report_rate(latencies.count, at - start, cpu, lost);
    qsort(latencies.ns, latencies.count, sizeof *latencies.ns, by_value);
    printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n", percentile_us(0.5),
           percentile_us(0.99), percentile_us(0.999));
}

/* How long an answer is: its head, and the body of the length that the head tells. */
static void http(void) {
    int fd = open_socket();
    size_t size = 0;
    char *body = NULL, *length = NULL;
    opt.size = sizeof request - 1;
    memcpy(out = need(malloc(opt.size)), request, opt.size);
    if (send(fd, out, opt.size, 0) != (ssize_t)opt.size)
        die("send: %s", strerror(errno));
    while (!body && size < CHUNK - 1) {
        ssize_t n = recv(fd, in + size, CHUNK - 1 - size, 0);
        if (n <= 0)
            die("no answer");
        in[size += (size_t)n] = 0;
        body = strstr(in, "\r\n\r\n");
    }
    if (!body || !(length = strcasestr(in, "content-length:")) || length > body)
        die("no Content-Length");
    opt.answer = (size_t)(body + 4 - in) + (size_t)atol(length + strlen("content-length:"));
    if (opt.answer > CHUNK)
        die("an answer of %zu bytes", opt.answer);
    close(fd);
    echo();
}

/* One call sends a burst, which the kernel cuts into datagrams: sent one by one, or even with
 * sendmmsg, they would cost more than a fast receiver needs to take them. */
static void flood(void) {
    opt.udp = true;
    size_t burst = ACK_EVERY * opt.size;
    struct pollfd answer = {.fd = open_socket(), .events = POLLIN};
    int segment = (int)opt.size;
    if (burst > 65507 || setsockopt(answer.fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment))
        die("UDP_SEGMENT: %zu bytes at once", burst);
    out = need(calloc(1, burst));
    int64_t length = (int64_t)(opt.seconds * 1e9), start = now() + length / 5, cpu = 0, at;
    long under_way = 0, taken = 0, lost = 0;
    bool warm = false;
    do {
        while (under_way + ACK_EVERY <= AHEAD) {
            if (send(answer.fd, out, burst, 0) < 0)
                die("send: %s", strerror(errno));
            under_way += ACK_EVERY;
        }
        if (poll(&answer, 1, 200) == 0) {
            lost += under_way;
            under_way = 0;
        }
        while (recv(answer.fd, in, sizeof in, MSG_DONTWAIT) >= 0) {
            under_way -= ACK_EVERY;
            taken += ACK_EVERY;
        }
        at = now();
        if (!warm && at >= start) {
            warm = true;
            start = at;
            cpu = server_cpu();
            taken = lost = 0;
        }
    } while (!warm || at < start + length);
    cpu = server_cpu() - cpu;
    report_rate((size_t)taken, at - start, cpu, lost);
    puts("}");
}

static void idle(void) {
    open_clients();
    puts("connected");
    fflush(stdout);
    while (read(STDIN_FILENO, in, sizeof in) > 0)
        ;
}

int main(int argc, char **argv) {
    for (int c; (c = getopt(argc, argv, "c:s:t:n:p:")) != -1;) {
        switch (c) {
        case 'c': opt.connections = atoi(optarg); break;
        case 's': opt.size = (size_t)atol(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'n': opt.messages = atol(optarg); break;
        case 'p': opt.pid = atoi(optarg); break;
        default: return 2;
        }
    }
    argc -= optind;
    argv += optind;
    out = need(calloc(1, opt.size));
    if (argc == 3 && !strcmp(argv[0], "echo")) {
        opt.udp = !strcmp(argv[1], "udp");
        opt.port = atoi(argv[2]);
        echo();
    } else if (argc == 2 && !strcmp(argv[0], "http")) {
        opt.port = atoi(argv[1]);
        http();
    } else if (argc == 2 && !strcmp(argv[0], "flood")) {
        opt.port = atoi(argv[1]);
        flood();
    } else if (argc == 2 && !strcmp(argv[0], "idle")) {
        opt.port = atoi(argv[1]);
        idle();
    } else {
        die("usage: load echo tcp|udp PORT, http PORT, flood PORT, or idle PORT; see its source");
    }
    return 0;
}
