/* The engine as a whole, its cells and its timers. Its other parts:
 *
 *     engine_sources.c    the waiters for each descriptor, and what epoll says of it
 *     engine_executor.c   the executor's side: batches, and where it waits
 *     engine_reactor.c    the reactor's side
 *     engine_simulation.c what a test puts in the place of the clock, the order and the kernel
 */

#include "engine_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

/* The engine is broken, and the executor must hear of it. The lock is held. Only the first error is
 * kept. */
static void engine_break_down(trale_engine *e, int error)
{
    int sound = 0;
    atomic_compare_exchange_strong_explicit(&e->broken, &sound, error, memory_order_relaxed,
                                            memory_order_relaxed);
    if (e->executor == TRALE_ASLEEP) {
        e->executor = TRALE_AWAKE;
        TRALE_SIGNAL(&e->work);
    }
}

void trale_break(trale_engine *e, int error)
{
    if (!trale_enter(e))
        return;
    engine_break_down(e, error);
    TRALE_UNLOCK(&e->lock);
}

void trale_robbed(trale_engine *e, int error)
{
    if (e->epoll < 0)
        return;
    e->robbed = true;
    engine_break_down(e, error);
}

void trale_lock_and_tell_robbed(trale_engine *e, int error)
{
    if (!trale_enter(e))
        return;
    trale_robbed(e, error);
    TRALE_UNLOCK(&e->lock);
}

int trale_broken(trale_engine *e)
{
    return atomic_load_explicit(&e->broken, memory_order_relaxed);
}

/* ---- cells ---------------------------------------------------------------------------------- */

trale_cell *trale_cell_new(void *owner, uint8_t kind)
{
    trale_cell *cell = malloc(sizeof *cell);
    if (cell != NULL)
        *cell = (trale_cell){.owner = owner, .refs = 1, .state = TRALE_NEW, .kind = kind};
    return cell;
}

void trale_cell_ref(trale_cell *cell)
{
    atomic_fetch_add_explicit(&cell->refs, 1, memory_order_relaxed);
}

void trale_cell_unref(trale_cell *cell)
{
    if (atomic_fetch_sub_explicit(&cell->refs, 1, memory_order_acq_rel) == 1)
        free(cell);
}

/* R1, as it looks with a lock and a condition variable: queue first, then tell, both under the lock.
 * The executor looks at the queue and falls asleep under the same lock, so it sees either the cell
 * or the signal. Only a thread that finds it asleep notifies it, and only once. */
void trale_unlock_and_tell(trale_engine *e)
{
    enum trale_executor was = e->executor;
    if (was != TRALE_AWAKE && e->head != NULL) {
        e->executor = TRALE_AWAKE;
        if (was == TRALE_ASLEEP)
            TRALE_SIGNAL(&e->work);
    }
    bool notify = was == TRALE_IN_EPOLL && e->executor == TRALE_AWAKE;
    TRALE_UNLOCK(&e->lock);
    if (notify) {
        int error = trale_notify(e);
        if (error != 0)
            trale_lock_and_tell_robbed(e, error);
    }
}

bool trale_push(trale_engine *e, trale_cell *cell)
{
    if (!trale_enter(e))
        return true;
    bool new = cell->state == TRALE_NEW;
    if (new)
        trale_queue(e, cell);
    trale_unlock_and_tell(e);
    return new;
}

void trale_wake(trale_engine *e, trale_cell *cell)
{
    if (!trale_enter(e))
        return;
    trale_wake_cell(e, cell);
    trale_unlock_and_tell(e);
}

/* R43: it looks as if the executor need not ask, as it polls what it has taken out. But Python code may
 * have it poll a task that is still in the queue. If that cell were put to wait, a wake from another
 * thread would queue it a second time. It is its own link, so what stood behind it would be lost. */
bool trale_wait_on(trale_engine *e, trale_cell *cell)
{
    if (!trale_enter(e))
        return true;
    bool may = cell->state != TRALE_QUEUED && cell->state != TRALE_ENDED;
    if (may)
        cell->state = TRALE_WAITING;
    TRALE_UNLOCK(&e->lock);
    return may;
}

bool trale_is_waiting(trale_engine *e, trale_cell *cell)
{
    if (!trale_enter(e))
        return false;
    bool waiting = cell->state == TRALE_WAITING;
    TRALE_UNLOCK(&e->lock);
    return waiting;
}

void trale_end(trale_engine *e, trale_cell *cell)
{
    if (!trale_enter(e))
        return;
    cell->state = TRALE_ENDED;
    TRALE_UNLOCK(&e->lock);
}

/* ---- timers ------------------------------------------------------------------------------------ */

int64_t trale_now(void)
{
    return TRALE_CLOCK();
}

/* Set the timerfd, unless it expires in time. One that expires too early does no harm, so it is
 * never put off. Under the lock, as two threads with different news must not set it in the wrong
 * order. */
void trale_arm(trale_engine *e)
{
    int64_t next = trale_next_real(e);
    if (next >= e->armed)
        return;
    /* 0 would mean: never. */
    struct itimerspec when = {.it_value = trale_timespec(next > 0 ? next : 1)};
    if (trale_may_call(e, TRALE_CALL_TIMERFD_SETTIME, e->timer_fd)
        && timerfd_settime(e->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        e->armed = next;
    else
        trale_robbed(e, errno);
}

int trale_set_timer(trale_engine *e, trale_timer *timer, int64_t deadline, trale_cell *cell)
{
    if (!trale_enter(e))
        return 0;
    timer->deadline = deadline;
    int error = trale_heap_push(&e->heap, timer);
    if (error == 0) {
        timer->cell = cell;
        trale_cell_ref(cell);
        if (e->reactor_in_epoll)
            trale_arm(e);
    }
    TRALE_UNLOCK(&e->lock);
    return error;
}

bool trale_clear_timer(trale_engine *e, trale_timer *timer)
{
    if (!trale_enter(e))
        return false;
    bool was_set = timer->place != 0;
    if (was_set)
        trale_heap_remove(&e->heap, timer);
    TRALE_UNLOCK(&e->lock);
    return was_set;
}

bool trale_is_set(trale_engine *e, trale_timer *timer)
{
    if (!trale_enter(e))
        return false;
    bool set = timer->place != 0;
    TRALE_UNLOCK(&e->lock);
    return set;
}

size_t trale_timers(trale_engine *e)
{
    if (!trale_enter(e))
        return 0;
    size_t count = e->heap.count;
    TRALE_UNLOCK(&e->lock);
    return count;
}

int64_t trale_next_timer(trale_engine *e)
{
    if (!trale_enter(e))
        return TRALE_NEVER;
    int64_t next = trale_heap_next(&e->heap);
    TRALE_UNLOCK(&e->lock);
    return next;
}

int64_t trale_time(trale_engine *e)
{
    int64_t now;
    if (e->simulation != NULL && trale_simulation_now(e->simulation, &now))
        return now;
    return TRALE_CLOCK();
}

size_t trale_fire_timers(trale_engine *e, int64_t now)
{
    size_t fired = 0;
    now = trale_deadline_clock(e, now);
    while (fired < TRALE_BATCH && trale_heap_next(&e->heap) <= now) {
        trale_timer *timer = e->heap.timers[0];
        trale_cell *cell = timer->cell;
        trale_heap_remove(&e->heap, timer);
        trale_wake_cell(e, cell);
        trale_cell_unref(cell);
        fired++;
    }
    return fired;
}

/* ---- the engine as a whole --------------------------------------------------------------------- */

trale_engine *trale_new(void)
{
    trale_engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->duty, &monotonic);
    pthread_cond_init(&e->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&e->lock, NULL);
    e->armed = TRALE_NEVER;
    e->epoll = e->wakeup_fd = e->timer_fd = -1;
    return e;
}

void trale_simulate(trale_engine *e, trale_simulation *simulation)
{
    e->simulation = simulation;
}

static int engine_add_own(trale_engine *e, int fd, uint64_t id)
{
    /* Edge-triggered: each write and each expiry is reported once, and need not be read. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = id};
    return epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &event);
}

int trale_open(trale_engine *e)
{
    int error;
    if (e->epoll >= 0)
        return -EALREADY;
    if ((e->epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0
        && (e->wakeup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0
        && (e->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) >= 0
        && engine_add_own(e, e->wakeup_fd, TRALE_WAKEUP_FD) == 0 && engine_add_own(e, e->timer_fd, TRALE_TIMER_FD) == 0)
        return 0;
    error = -errno;
    trale_close(e);
    return error;
}

static void engine_close_fd(trale_engine *e, int *fd)
{
    /* If other code has closed them, the numbers may be another's by now. */
    if (*fd >= 0 && !e->robbed)
        close(*fd);
    *fd = -1;
}

void trale_close(trale_engine *e)
{
    engine_close_fd(e, &e->timer_fd);
    engine_close_fd(e, &e->wakeup_fd);
    engine_close_fd(e, &e->epoll);
}

void trale_after_fork_in_child(trale_engine *e)
{
    atomic_store_explicit(&e->left_behind, true, memory_order_relaxed);
    trale_close(e);
}

void trale_free(trale_engine *e)
{
    for (size_t i = 0; i < e->chunk_count; i++)
        free(e->chunks[i]);
    free(e->chunks);
    trale_heap_free(&e->heap);
    if (!e->left_behind) {
        pthread_cond_destroy(&e->work);
        pthread_cond_destroy(&e->duty);
        pthread_mutex_destroy(&e->lock);
    }
    free(e);
}

void trale_count(trale_engine *e, trale_counts *counts)
{
    *counts = (trale_counts){0};
    if (!trale_enter(e))
        return;
    *counts = e->counts;
    TRALE_UNLOCK(&e->lock);
}
