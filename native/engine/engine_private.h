/* What the parts of the engine share. No other file includes this. */
#ifndef TRALE_ENGINE_PRIVATE_H
#define TRALE_ENGINE_PRIVATE_H

#include "engine.h"
#include "sync.h"
#include "timer_heap.h"
#include "waits.h"

#define TRALE_CHUNK 256  /* sources in one piece of the table */

/* What epoll carries for the engine's own descriptors; a source's generation begins at 1. */
#define TRALE_WAKEUP_FD 0
#define TRALE_TIMER_FD 1

enum trale_executor {
    TRALE_AWAKE,     /* it will look at the queue before it waits */
    TRALE_IN_EPOLL,  /* it waits in epoll: write to the wakeup_fd */
    TRALE_ASLEEP,    /* it waits on `work`: signal */
};

struct trale_engine {
    pthread_mutex_t lock;
    pthread_cond_t work;  /* the executor waits: the queue is not empty */
    pthread_cond_t duty;  /* the reactor waits: epoll is its to look after */

    trale_cell *head, *tail;  /* the queue; lock */
    _Atomic size_t queued;    /* its length; written under the lock */
    size_t batch;             /* what is left of the batch; executor's thread */
    _Atomic uint64_t turn;    /* counts what was taken: it tells a busy executor from a stuck one */

    enum trale_executor executor;  /* lock */
    bool reactor_in_epoll;     /* lock */
    bool stopping;             /* lock */
    bool conversing;           /* the last thing to come was I/O: more may follow; lock */
    _Atomic bool left_behind;  /* this is a forked child: the lock may be held for ever */
    _Atomic int broken;        /* why the executor is to end: see trale_broken; lock */
    bool robbed;               /* other code has closed our descriptors; lock */

    trale_source **chunks;      /* lock */
    size_t chunk_count;         /* lock */
    trale_source *free_source;  /* lock */

    trale_heap heap;  /* lock */
    int64_t armed;    /* when the timerfd will expire; lock */
    int64_t looked;   /* when the executor last looked at epoll; executor's thread */

    trale_simulation *simulation;  /* of a test, or NULL; written before the threads begin */

    int epoll, wakeup_fd, timer_fd;
    trale_counts counts;  /* lock */
    struct epoll_event fetched[TRALE_BATCH];  /* executor's thread */
};

/* In a forked child no thread is left to give the lock back. */
static inline bool trale_enter(trale_engine *e)
{
    if (atomic_load_explicit(&e->left_behind, memory_order_relaxed))
        return false;
    TRALE_LOCK(&e->lock);
    return true;
}

/* ---- where a simulation comes in ------------------------------------------------------------------------ */

/* Whether a system call is to be made; false: it was planned to fail, and errno says how. */
static inline bool trale_may_call(trale_engine *e, enum trale_call call, int fd)
{
    int error = e->simulation == NULL ? 0 : trale_simulation_take(e->simulation, call, fd, NULL);
    if (error != 0)
        errno = -error;
    return error == 0;
}

static inline int trale_epoll_wait(trale_engine *e, struct epoll_event *events, int ms)
{
    return trale_may_call(e, TRALE_CALL_EPOLL_WAIT, e->epoll)
               ? TRALE_EPOLL_WAIT(e->epoll, events, TRALE_BATCH, ms) : -1;
}

static inline int trale_epoll_wait_ns(trale_engine *e, struct epoll_event *events, int64_t ns)
{
    return trale_may_call(e, TRALE_CALL_EPOLL_WAIT, e->epoll)
               ? TRALE_EPOLL_WAIT_NS(e->epoll, events, TRALE_BATCH, ns) : -1;
}

/* Interrupt epoll_wait. Returns errno or 0. */
static inline int trale_notify(trale_engine *e)
{
    return trale_may_call(e, TRALE_CALL_EVENTFD_WRITE, e->wakeup_fd) ? TRALE_NOTIFY(e->wakeup_fd) : errno;
}

/* The time on the clock of deadlines, if the kernel's is `now`. */
static inline int64_t trale_deadline_clock(trale_engine *e, int64_t now)
{
    if (e->simulation != NULL)
        trale_simulation_now(e->simulation, &now);
    return now;
}

/* The first deadline that the kernel's clock will reach. */
static inline int64_t trale_next_real(trale_engine *e)
{
    int64_t now;
    return e->simulation != NULL && trale_simulation_now(e->simulation, &now) ? TRALE_NEVER
                                                                              : trale_heap_next(&e->heap);
}

/* ---- engine.c: the lock is held, if nothing else is said --------------------------------------------- */

/* A call on our own descriptors has failed: other code has closed them, if we have not. */
void trale_robbed(trale_engine *e, int error);

/* The same, without the lock. */
void trale_lock_and_tell_robbed(trale_engine *e, int error);

static inline void trale_queue(trale_engine *e, trale_cell *cell)
{
    cell->state = TRALE_QUEUED;
    cell->next = NULL;
    trale_cell_ref(cell);
    if (e->tail == NULL)
        e->head = cell;
    else
        e->tail->next = cell;
    e->tail = cell;
    atomic_fetch_add_explicit(&e->queued, 1, memory_order_relaxed);
}

static inline void trale_wake_cell(trale_engine *e, trale_cell *cell)
{
    if (cell->state == TRALE_WAITING)
        trale_queue(e, cell);
}

/* R1: after something may have been queued. */
void trale_unlock_and_tell(trale_engine *e);

/* Set the timerfd for the next deadline, unless it goes off in time. */
void trale_arm(trale_engine *e);
size_t trale_fire_timers(trale_engine *e, int64_t now);

/* ---- engine_sources.c ----------------------------------------------------------------------------------- */

/* Take what epoll_wait brought, and the timers that are due. The lock is held. */
void trale_collect(trale_engine *e, const struct epoll_event *events, int n, int64_t now);

#endif
