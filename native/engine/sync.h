/* Every lock, wait, clock and notification of the engine, by these names and no others, so that a test can
 * put its own in their place. */
#ifndef TRALE_SYNC_H
#define TRALE_SYNC_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TRALE_NS 1000000000LL

static inline int64_t trale_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * TRALE_NS + t.tv_nsec;
}

static inline struct timespec trale_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / TRALE_NS, .tv_nsec = ns % TRALE_NS};
}

/* The condition variable must use CLOCK_MONOTONIC. */
static inline void trale_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t ns)
{
    struct timespec t = trale_timespec(ns);
    pthread_cond_timedwait(condition, lock, &t);
}

/* Adds to an eventfd. EAGAIN: its counter is full, so it is readable already. Returns errno or 0. */
static inline int trale_notify_fd(int fd)
{
    uint64_t one = 1;
    return write(fd, &one, sizeof one) < 0 && errno != EAGAIN ? errno : 0;
}

/* epoll_wait counts in milliseconds; this one, from Linux 5.11 on, does not. */
static inline int trale_epoll_pwait2(int fd, struct epoll_event *events, int n, int64_t ns)
{
#ifdef SYS_epoll_pwait2
    struct timespec t = trale_timespec(ns);
    return (int)syscall(SYS_epoll_pwait2, fd, events, n, &t, NULL, 0);
#else
    (void)fd, (void)events, (void)n, (void)ns;
    return -1;
#endif
}

#define TRALE_LOCK(lock) pthread_mutex_lock(lock)
#define TRALE_UNLOCK(lock) pthread_mutex_unlock(lock)
#define TRALE_WAIT(condition, lock) pthread_cond_wait(condition, lock)
#define TRALE_WAIT_UNTIL(condition, lock, ns) trale_wait_until(condition, lock, ns)
#define TRALE_SIGNAL(condition) pthread_cond_signal(condition)
#define TRALE_EPOLL_WAIT(fd, events, n, ms) epoll_wait(fd, events, n, ms)
#define TRALE_EPOLL_WAIT_NS(fd, events, n, ns) trale_epoll_pwait2(fd, events, n, ns)
#define TRALE_CLOCK() trale_clock()
#define TRALE_NOTIFY(fd) trale_notify_fd(fd)

#endif
