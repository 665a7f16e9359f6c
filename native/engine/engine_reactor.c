/* The reactor's side: it waits in epoll while the executor does not. */

#include "engine_private.h"

#include <errno.h>

/* Park while the executor looks after epoll itself: until it is asleep, or stuck. The lock is held. */
static void reactor_leave_it_to_the_executor(trale_engine *e)
{
    while (e->executor != TRALE_ASLEEP && !e->stopping) {
        uint64_t turn = atomic_load_explicit(&e->turn, memory_order_relaxed);
        TRALE_WAIT_UNTIL(&e->duty, &e->lock, TRALE_CLOCK() + TRALE_STUCK_NS);
        if (e->executor == TRALE_AWAKE && turn == atomic_load_explicit(&e->turn, memory_order_relaxed))
            return;
    }
}

int trale_run_reactor(trale_engine *e)
{
    struct epoll_event events[TRALE_BATCH];
    int n = 0;
    TRALE_LOCK(&e->lock);
    while (!e->stopping && n >= 0) {
        reactor_leave_it_to_the_executor(e);
        if (e->stopping)
            break;
        e->reactor_in_epoll = true;
        trale_arm(e);
        TRALE_UNLOCK(&e->lock);
        n = trale_epoll_wait(e, events, -1);
        if (n < 0)
            n = errno == EINTR ? 0 : -errno;
        int64_t now = TRALE_CLOCK();
        TRALE_LOCK(&e->lock);
        e->reactor_in_epoll = false;
        size_t before = e->queued;
        if (n >= 0)
            trale_collect(e, events, n, now);
        else
            trale_robbed(e, -n);
        if (e->executor == TRALE_AWAKE)
            e->counts.collected += e->queued - before;
        trale_unlock_and_tell(e);
        TRALE_LOCK(&e->lock);
    }
    TRALE_UNLOCK(&e->lock);
    return n < 0 ? n : 0;
}

int trale_stop_reactor(trale_engine *e)
{
    if (!trale_enter(e))
        return 0;
    e->stopping = true;
    TRALE_SIGNAL(&e->duty);
    TRALE_UNLOCK(&e->lock);
    int error = trale_notify(e);
    if (error != 0)
        trale_lock_and_tell_robbed(e, error);
    return -error;
}
