/* The engine: run-queue, sources, timers, and which thread waits where. It knows no Python.
 *
 * Two threads and one lock
 *     The executor takes cells out of the queue and runs what they stand for. The reactor waits
 *     in epoll and puts the cells of the waiters into the queue. Any other thread may push and
 *     wake. All that is shared is under one lock, which is held for a few steps: at most
 *     TRALE_BATCH events or timers, and no call that waits. Now and then a table grows, or the timerfd
 *     is set. No caller's code runs under it.
 *
 * Which thread sits in epoll
 *     A reactor that goes back to epoll_wait while the executor is busy costs a thread switch per
 *     event. So while the executor is awake the reactor parks, and the executor looks at epoll
 *     itself between batches. It hands epoll over in two cases: it runs dry and goes to sleep;
 *     or it has been in one and the same poll for TRALE_STUCK_NS, which the reactor finds out by
 *     looking at `turn`. Before it goes to sleep after I/O, it waits in epoll itself for a short
 *     while: the next message of a conversation then needs no thread switch either.
 *
 * Functions return 0 or a count, or -errno. Where nothing else is said, any thread may call.
 */
#ifndef TRALE_ENGINE_H
#define TRALE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine_simulation.h"

#define TRALE_NEVER INT64_MAX   /* a deadline that no clock reaches, in ns of CLOCK_MONOTONIC */
#define TRALE_BATCH 256         /* events taken from epoll, or timers fired, in one go */

typedef struct trale_engine trale_engine;

/* ---- cells: what the executor is to look at ------------------------------------------------- */

/* A task's life: see task_state.py. */
enum trale_state {
    TRALE_NEW,      /* never queued */
    TRALE_WAITING,  /* a wake will queue it; also while it is being polled (R2) */
    TRALE_QUEUED,   /* in the queue: a wake does nothing */
    TRALE_TAKEN,    /* taken from it, and not yet polled: a wake does nothing */
    TRALE_ENDED,    /* a wake does nothing, for ever */
};

/* A task's place in the runtime, or that of a call to be made. Wakers refer to the cell and not to
 * the task, so one that outlives its task finds TRALE_ENDED and nothing of the task. Because a cell
 * is its own link in the queue, and stands there once at most, waking allocates nothing. */
typedef struct trale_cell {
    struct trale_cell *next;  /* in the queue; lock */
    void *owner;              /* whom the cell stands for; the engine never looks at it */
    _Atomic uint32_t refs;    /* the cell is freed with the last */
    uint8_t state;            /* enum trale_state; lock */
    uint8_t kind;             /* the caller's; the engine never looks at it */
} trale_cell;

trale_cell *trale_cell_new(void *owner, uint8_t kind);  /* NULL: no memory. One reference. */
void trale_cell_ref(trale_cell *cell);
void trale_cell_unref(trale_cell *cell);

/* Queue a new cell. The queue has a reference of its own until trale_take. False: it is not new. */
bool trale_push(trale_engine *e, trale_cell *cell);

/* Queue a cell that is TRALE_WAITING; otherwise do nothing. Legal always, harmless twice. */
void trale_wake(trale_engine *e, trale_cell *cell);

/* From now on a wake queues it. Executor, just before it polls. False: it is in the queue, where it
 * has one place only, or it has ended. */
bool trale_wait_on(trale_engine *e, trale_cell *cell);

bool trale_is_waiting(trale_engine *e, trale_cell *cell);

/* From now on a wake does nothing. */
void trale_end(trale_engine *e, trale_cell *cell);

/* ---- the executor ------------------------------------------------------------------------------ */

/* Begin a batch: what is in the queue now, after a look at timers and epoll if it is time for one.
 * Never waits. 0: nothing is there, call trale_park. */
size_t trale_begin_batch(trale_engine *e);

/* The next cell of the batch, with the queue's reference; NULL at its end. */
trale_cell *trale_take(trale_engine *e);

/* The next cell, whatever batch it is in. When no executor is left. */
trale_cell *trale_drain(trale_engine *e);

/* How many cells are in the queue. */
size_t trale_queued(trale_engine *e);

/* Wait until the queue is not empty, the engine is broken, or a timer is long overdue. */
void trale_park(trale_engine *e);

/* The errno of a call that failed on the engine's own descriptors, because other code closed them: the
 * executor is to end. Also what trale_break was given. 0: it is sound. */
int trale_broken(trale_engine *e);
void trale_break(trale_engine *e, int error);

/* After I/O, wait in epoll for TRALE_MOMENT_NS at most. False: the queue is still empty. */
bool trale_wait_a_moment(trale_engine *e);

/* Before the threads begin: from now on it lives in a simulation, which must outlive it. */
void trale_simulate(trale_engine *e, trale_simulation *simulation);

/* Of a batch that has just begun: have the cells of that kind change places, as the simulation says. */
void trale_shuffle(trale_engine *e, uint8_t kind);

/* ---- sources: executor's thread, but for what is said --------------------------------------------- */

enum { TRALE_READ, TRALE_WRITE, TRALE_DIRECTIONS };

/* An entry in the list of waiters of a direction. The waiter owns it. */
typedef struct trale_waiter {
    struct trale_waiter *next, *prev;  /* NULL while it is in no list; lock */
    trale_cell *cell;                  /* woken when the direction is ready; with a reference */
} trale_waiter;

/* R3: the reactor counts events, the executor writes down which count it had seen before the call
 * that said "would block". Ready while they differ: the newer report wins. */
typedef struct trale_direction {
    _Atomic uint64_t events;  /* written under the lock, read without */
    _Atomic bool more;        /* the end, an error, urgent data: a short read proves nothing */
    uint64_t seen;            /* executor's thread */
    trale_waiter waiters;     /* a ring, this is its head; lock */
} trale_direction;

/* A descriptor as the engine sees it. epoll carries slot and generation, never the descriptor's
 * number: an event that was fetched before the source went away cannot reach its successor. Slots
 * are used again, never freed before the engine is. */
typedef struct trale_source {
    trale_direction direction[TRALE_DIRECTIONS];
    struct trale_source *free;     /* the next unused slot */
    uint32_t slot;                 /* its number in the table */
    uint32_t generation;           /* counts its users; lock */
    int fd;
} trale_source;

/* -errno of epoll_ctl's ADD; the source is made nevertheless, but for -ENOMEM. */
int trale_watch(trale_engine *e, int fd, trale_source **source);
int trale_rearm(trale_engine *e, trale_source *source);  /* report anew what is ready: MOD */
bool trale_watches(trale_engine *e, trale_source *source);  /* false: its number means another file, or none */
void trale_unwatch(trale_engine *e, trale_source *source);  /* DEL, and wake the waiters */

/* Wait for a direction unless it has become ready (then false). `waiter` is zeroed before its first
 * use; if it is in the list already it keeps its place there, and `cell` is woken in place of the
 * one before: the last poller is the waiter. */
bool trale_wait_for(trale_engine *e, trale_direction *d, trale_waiter *waiter, trale_cell *cell);

/* Wait for the next event, ready or not. */
void trale_add_waiter(trale_engine *e, trale_direction *d, trale_waiter *waiter, trale_cell *cell);

/* True: it was still waiting, and its reference to the cell is the caller's now. */
bool trale_stop_waiting(trale_engine *e, trale_waiter *waiter);
void trale_wake_waiters(trale_engine *e, trale_direction *d);

static inline bool trale_ready(const trale_direction *d)
{
    return atomic_load_explicit(&d->events, memory_order_acquire) != d->seen;
}

/* ---- timers ------------------------------------------------------------------------------------- */

/* One deadline. The caller that set it owns it, and takes it back before freeing it. */
typedef struct trale_timer {
    int64_t deadline;  /* ns of CLOCK_MONOTONIC */
    uint64_t order;    /* among equal deadlines; lock */
    trale_cell *cell;  /* woken then; with a reference while it is set */
    size_t place;      /* in the heap, counted from 1; 0: not in it; lock */
} trale_timer;

/* Wake `cell` at `deadline`. Executor's thread, which looks at the heap before it sleeps.
 * -ENOMEM: the timer is not set. `timer` is zeroed before its first use. */
int trale_set_timer(trale_engine *e, trale_timer *timer, int64_t deadline, trale_cell *cell);

/* True: it was still set, and its reference to the cell is the caller's now. */
bool trale_clear_timer(trale_engine *e, trale_timer *timer);
bool trale_is_set(trale_engine *e, trale_timer *timer);
size_t trale_timers(trale_engine *e);
int64_t trale_next_timer(trale_engine *e);  /* the first deadline; TRALE_NEVER: there is none */
int64_t trale_time(trale_engine *e);        /* on the clock of deadlines */

/* ---- the reactor, and the engine as a whole ------------------------------------------------------- */

typedef struct trale_counts {
    uint64_t epoll_returns;  /* of epoll_wait, in either thread */
    uint64_t events;         /* that it brought, without the engine's own */
    uint64_t stale;          /* of these, for a source that had gone */
    uint64_t collected;      /* cells that the reactor queued while the executor was awake */
    uint64_t parks;          /* of the executor on its condition variable */
} trale_counts;

trale_engine *trale_new(void);         /* NULL: no memory. No descriptor is open yet. */
int trale_open(trale_engine *e);       /* its descriptors */
int trale_run_reactor(trale_engine *e);   /* the reactor's loop; 0 after trale_stop_reactor */
int trale_stop_reactor(trale_engine *e);  /* -errno: it cannot be woken */
void trale_close(trale_engine *e);     /* its descriptors, unless other code has */
void trale_after_fork_in_child(trale_engine *e);  /* in a forked child: close them, and do nothing any more */
void trale_free(trale_engine *e);      /* its memory; what is queued is the caller's to drain before */
void trale_count(trale_engine *e, trale_counts *counts);
int64_t trale_now(void);               /* ns of CLOCK_MONOTONIC */

#endif
