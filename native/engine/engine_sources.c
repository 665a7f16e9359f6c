/* Sources: the waiters for each descriptor, and what epoll says of it. */

#include "engine_private.h"

#include <errno.h>
#include <stdlib.h>

#define READABLE (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define WRITABLE (EPOLLOUT | EPOLLHUP | EPOLLERR)
#define NOT_DRAINED (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define MASK (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)

static void sources_link_waiter(trale_direction *d, trale_waiter *waiter)
{
    waiter->prev = d->waiters.prev;
    waiter->next = &d->waiters;
    waiter->prev->next = waiter->next->prev = waiter;
}

static void sources_unlink_waiter(trale_waiter *waiter)
{
    waiter->prev->next = waiter->next;
    waiter->next->prev = waiter->prev;
    waiter->next = waiter->prev = NULL;
}

/* All, not one: an edge does not say how much there is, and one that was woken and then cancelled
 * would take it to the grave. */
static void sources_wake_all(trale_engine *e, trale_direction *d)
{
    while (d->waiters.next != &d->waiters) {
        trale_waiter *waiter = d->waiters.next;
        trale_cell *cell = waiter->cell;
        sources_unlink_waiter(waiter);
        trale_wake_cell(e, cell);
        trale_cell_unref(cell);
    }
}

static void sources_notify(trale_engine *e, trale_direction *d, bool more)
{
    if (more)
        atomic_store_explicit(&d->more, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->events, 1, memory_order_release);
    sources_wake_all(e, d);
}

static void sources_add_waiter(trale_direction *d, trale_waiter *waiter, trale_cell *cell)
{
    trale_cell_ref(cell);
    if (waiter->next == NULL)
        sources_link_waiter(d, waiter);
    else
        trale_cell_unref(waiter->cell);
    waiter->cell = cell;
}

void trale_add_waiter(trale_engine *e, trale_direction *d, trale_waiter *waiter, trale_cell *cell)
{
    if (!trale_enter(e))
        return;
    sources_add_waiter(d, waiter, cell);
    TRALE_UNLOCK(&e->lock);
}

bool trale_wait_for(trale_engine *e, trale_direction *d, trale_waiter *waiter, trale_cell *cell)
{
    if (!trale_enter(e))
        return true;
    /* R4 needs no second look here: the reactor counts and wakes under the same lock. */
    bool wait = !trale_ready(d);
    if (wait)
        sources_add_waiter(d, waiter, cell);
    TRALE_UNLOCK(&e->lock);
    return wait;
}

bool trale_stop_waiting(trale_engine *e, trale_waiter *waiter)
{
    if (!trale_enter(e))
        return false;
    bool waited = waiter->next != NULL;
    if (waited)
        sources_unlink_waiter(waiter);
    TRALE_UNLOCK(&e->lock);
    return waited;
}

void trale_wake_waiters(trale_engine *e, trale_direction *d)
{
    if (!trale_enter(e))
        return;
    sources_wake_all(e, d);
    trale_unlock_and_tell(e);
}

static int sources_add_chunk(trale_engine *e)
{
    trale_source **chunks = realloc(e->chunks, (e->chunk_count + 1) * sizeof *chunks);
    if (chunks == NULL)
        return -ENOMEM;
    e->chunks = chunks;
    trale_source *chunk = calloc(TRALE_CHUNK, sizeof *chunk);
    if (chunk == NULL)
        return -ENOMEM;
    for (size_t i = TRALE_CHUNK; i-- > 0;) {
        chunk[i].slot = (uint32_t)(e->chunk_count * TRALE_CHUNK + i);
        chunk[i].free = e->free_source;
        e->free_source = &chunk[i];
    }
    e->chunks[e->chunk_count++] = chunk;
    return 0;
}

static void sources_reset(trale_direction *d)
{
    /* A new source counts as ready: the first try will tell. */
    atomic_store_explicit(&d->events, 1, memory_order_relaxed);
    atomic_store_explicit(&d->more, false, memory_order_relaxed);
    d->seen = 0;
    d->waiters.next = d->waiters.prev = &d->waiters;
}

static int sources_control(trale_engine *e, int operation, const trale_source *s)
{
    struct epoll_event event = {
        .events = MASK,
        .data.u64 = (uint64_t)s->generation << 32 | s->slot,
    };
    return trale_may_call(e, TRALE_CALL_EPOLL_CTL, s->fd) && epoll_ctl(e->epoll, operation, s->fd, &event) == 0
               ? 0 : -errno;
}

/* What failed may be due to our own descriptors. If they are what they were, this changes nothing. */
static void sources_look_after_our_own(trale_engine *e)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = TRALE_WAKEUP_FD};
    if (!trale_may_call(e, TRALE_CALL_EPOLL_CTL, e->wakeup_fd)
        || epoll_ctl(e->epoll, EPOLL_CTL_MOD, e->wakeup_fd, &event) < 0)
        trale_lock_and_tell_robbed(e, errno);
}

static void sources_free(trale_engine *e, trale_source *s)
{
    s->generation++;
    s->fd = -1;
    if (s->generation == UINT32_MAX)
        return;  /* a slot whose generations are used up is not used again */
    s->free = e->free_source;
    e->free_source = s;
}

int trale_watch(trale_engine *e, int fd, trale_source **source)
{
    if (!trale_enter(e))
        return -EBADF;
    int error = e->free_source == NULL ? sources_add_chunk(e) : 0;
    trale_source *s = e->free_source;
    if (error == 0) {
        e->free_source = s->free;
        if (s->generation == 0)
            s->generation = 1;
        s->fd = fd;
        sources_reset(&s->direction[TRALE_READ]);
        sources_reset(&s->direction[TRALE_WRITE]);
    }
    TRALE_UNLOCK(&e->lock);
    if (error != 0)
        return error;
    *source = s;
    error = sources_control(e, EPOLL_CTL_ADD, s);
    if (error == -EBADF || error == -EINVAL)
        sources_look_after_our_own(e);
    return error;
}

int trale_rearm(trale_engine *e, trale_source *source)
{
    return sources_control(e, EPOLL_CTL_MOD, source);
}

bool trale_watches(trale_engine *e, trale_source *source)
{
    int error = sources_control(e, EPOLL_CTL_ADD, source);
    if (error == -EEXIST)
        return true;
    if (error == 0)  /* its events, if there were any meanwhile, are for a source that is unwatched next */
        sources_control(e, EPOLL_CTL_DEL, source);
    else
        sources_look_after_our_own(e);
    return false;
}

void trale_unwatch(trale_engine *e, trale_source *source)
{
    if (atomic_load_explicit(&e->left_behind, memory_order_relaxed))
        return;
    /* ENOENT, EBADF: it was closed behind our back, which ended the watching too. */
    sources_control(e, EPOLL_CTL_DEL, source);
    TRALE_LOCK(&e->lock);
    sources_wake_all(e, &source->direction[TRALE_READ]);
    sources_wake_all(e, &source->direction[TRALE_WRITE]);
    sources_free(e, source);
    trale_unlock_and_tell(e);
}

static void sources_deliver(trale_engine *e, const struct epoll_event *event)
{
    uint64_t id = event->data.u64;
    if (id == TRALE_WAKEUP_FD)
        return;
    if (id == TRALE_TIMER_FD) {
        e->armed = TRALE_NEVER;
        return;
    }
    e->counts.events++;
    uint32_t slot = (uint32_t)id;
    trale_source *s = &e->chunks[slot / TRALE_CHUNK][slot % TRALE_CHUNK];
    if (s->generation != id >> 32) {
        e->counts.stale++;
        return;
    }
    bool more = event->events & NOT_DRAINED;
    if (event->events & READABLE)
        sources_notify(e, &s->direction[TRALE_READ], more);
    if (event->events & WRITABLE)
        sources_notify(e, &s->direction[TRALE_WRITE], more);
    e->conversing = true;
}

void trale_collect(trale_engine *e, const struct epoll_event *events, int n, int64_t now)
{
    e->counts.epoll_returns++;
    for (int i = 0; i < n; i++)
        sources_deliver(e, &events[i]);
    trale_fire_timers(e, now);
}
