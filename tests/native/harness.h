/* What the tests of the harness have in common. They look inside the engine. */
#ifndef TRALE_HARNESS_H
#define TRALE_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "check.h"
#include "engine_private.h"

#define MS (TRALE_NS / 1000)

struct test {
    const char *name;
    void (*run)(void);
};

#define TEST(name) {#name, test_##name}

/* Each ends in one without a name. */
extern const struct test queue_tests[], timers_tests[], sources_tests[], threads_tests[], memory_tests[];

static inline trale_engine *opened(void)
{
    trale_engine *e = trale_new();
    CHECK(e != NULL && trale_open(e) == 0);
    return e;
}

static inline void closed(trale_engine *e)
{
    trale_close(e);
    trale_free(e);
}

static inline trale_cell *cell_of(void *owner)
{
    trale_cell *cell = trale_cell_new(owner, 0);
    CHECK(cell != NULL);
    return cell;
}

static inline trale_cell *waiting_cell(trale_engine *e)
{
    trale_cell *cell = cell_of(NULL);
    trale_wait_on(e, cell);
    return cell;
}

/* Take the next cell of the queue, which has to be this one. */
static inline void take(trale_engine *e, trale_cell *expected)
{
    trale_cell *cell = trale_drain(e);
    CHECK(cell == expected);
    if (cell != NULL)
        trale_cell_unref(cell);
}

static inline void sleep_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

static inline void make_pair(int fds[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

static inline void send_byte(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

/* Say that a call on this direction has said "would block". */
static inline void block(trale_direction *d)
{
    d->seen = atomic_load(&d->events);
}

/* Have the engine look at epoll, as the executor does when it has nothing else. */
static inline void look(trale_engine *e)
{
    trale_begin_batch(e);
}

#endif
