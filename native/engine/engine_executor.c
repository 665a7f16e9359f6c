/* The executor's side: batches, and where it waits when there is none. */

#include "engine_private.h"

#include <errno.h>

#define GRACE_NS (TRALE_GRACE_MS * TRALE_NS / 1000)

size_t trale_begin_batch(trale_engine *e)
{
    int64_t now = TRALE_CLOCK();
    int n = -1;
    if (atomic_load_explicit(&e->queued, memory_order_relaxed) == 0 || now - e->looked >= TRALE_LOOK_NS) {
        n = trale_epoll_wait(e, e->fetched, 0);
        if (n < 0 && errno != EINTR)
            trale_lock_and_tell_robbed(e, errno);
        e->looked = now;
    }
    if (!trale_enter(e))
        return 0;
    if (n >= 0)
        trale_collect(e, e->fetched, n, now);
    else
        trale_fire_timers(e, now);
    if (e->reactor_in_epoll)
        trale_arm(e);
    e->batch = atomic_load_explicit(&e->queued, memory_order_relaxed);
    TRALE_UNLOCK(&e->lock);
    return e->batch;
}

static trale_cell *executor_pop(trale_engine *e)
{
    if (!trale_enter(e))
        return NULL;
    trale_cell *cell = e->head;
    if (cell != NULL) {
        e->head = cell->next;
        if (e->head == NULL)
            e->tail = NULL;
        if (cell->state == TRALE_QUEUED)  /* else it has ended */
            cell->state = TRALE_TAKEN;
        atomic_fetch_sub_explicit(&e->queued, 1, memory_order_relaxed);
    }
    TRALE_UNLOCK(&e->lock);
    return cell;
}

trale_cell *trale_take(trale_engine *e)
{
    if (e->batch == 0)
        return NULL;
    e->batch--;
    atomic_fetch_add_explicit(&e->turn, 1, memory_order_relaxed);
    return executor_pop(e);
}

trale_cell *trale_drain(trale_engine *e)
{
    return executor_pop(e);
}

size_t trale_queued(trale_engine *e)
{
    return atomic_load_explicit(&e->queued, memory_order_relaxed);
}

/* Wait a while in epoll, in place of the reactor. The lock is held before and after. */
static void executor_wait_in_epoll(trale_engine *e, bool a_moment)
{
    e->executor = TRALE_IN_EPOLL;
    e->conversing = false;
    trale_arm(e);
    TRALE_UNLOCK(&e->lock);
    int n = a_moment ? trale_epoll_wait_ns(e, e->fetched, TRALE_MOMENT_NS)
                     : trale_epoll_wait(e, e->fetched, TRALE_GRACE_MS);
    int64_t now = TRALE_CLOCK();
    TRALE_LOCK(&e->lock);
    e->executor = TRALE_AWAKE;
    trale_collect(e, e->fetched, n, now);
    e->looked = now;
}

bool trale_wait_a_moment(trale_engine *e)
{
    if (!trale_enter(e))
        return false;
    if (e->head == NULL && e->conversing)
        executor_wait_in_epoll(e, true);
    bool found = e->head != NULL;
    TRALE_UNLOCK(&e->lock);
    return found;
}

/* Sleep until there is work. R42: other code may have closed the timerfd; epoll forgets it then
 * and does not say so, and with the reactor in epoll and the executor asleep no thread would look
 * at the timers again. So a deadline that is long over wakes the executor, which looks after its timers,
 * sets the timerfd anew, and finds out. The lock is held before and after. */
static void executor_wait_for_work(trale_engine *e)
{
    while (e->head == NULL && trale_broken(e) == 0) {
        int64_t next = trale_next_real(e);
        if (next > TRALE_NEVER - TRALE_LATE_NS) {
            TRALE_WAIT(&e->work, &e->lock);
        } else if (TRALE_CLOCK() >= next + TRALE_LATE_NS) {
            e->armed = TRALE_NEVER;
            return;
        } else {
            TRALE_WAIT_UNTIL(&e->work, &e->lock, next + TRALE_LATE_NS);
        }
    }
}

void trale_park(trale_engine *e)
{
    int64_t soon = TRALE_CLOCK() + GRACE_NS;
    if (!trale_enter(e))
        return;
    if (e->head == NULL && (e->conversing || trale_next_real(e) < soon))
        executor_wait_in_epoll(e, false);
    if (e->head == NULL) {
        e->executor = TRALE_ASLEEP;
        e->counts.parks++;
        trale_arm(e);
        TRALE_SIGNAL(&e->duty);
        executor_wait_for_work(e);
        e->executor = TRALE_AWAKE;
    }
    TRALE_UNLOCK(&e->lock);
}
