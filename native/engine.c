#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "sync.h"
#include "timer_heap.h"
#include "waits.h"

#define GRACE_NS (TRALE_GRACE_MS * TRALE_NS / 1000)

/* How late an alarm may be before the executor looks for itself: see wait_for_work. The explorer does
 * without, or it would not find a lost alarm. */
#ifndef LATE_NS
#define LATE_NS (TRALE_NS / 10)
#endif

#define CHUNK 256  /* sources in one piece of the table */

/* What epoll carries for the engine's own descriptors; a source's generation begins at 1. */
#define BELL 0
#define ALARM 1

#define READABLE (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define WRITABLE (EPOLLOUT | EPOLLHUP | EPOLLERR)
#define NOT_DRAINED (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define MASK (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)

enum executor {
    AWAKE,     /* it will look at the queue before it waits */
    IN_EPOLL,  /* it waits in epoll: ring the bell */
    ASLEEP,    /* it waits on `work`: signal */
};

struct trale_engine {
    pthread_mutex_t lock;
    pthread_cond_t work;  /* the executor waits: the queue is not empty */
    pthread_cond_t duty;  /* the reactor waits: epoll is its to look after */

    trale_cell *head, *tail;  /* the queue; lock */
    _Atomic size_t queued;    /* its length; written under the lock */
    size_t batch;             /* what is left of the batch; executor's thread */
    _Atomic uint64_t turn;    /* counts what was taken: it tells a busy executor from a stuck one */

    enum executor executor;    /* lock */
    bool reactor_in_epoll;     /* lock */
    bool stopping;             /* lock */
    bool conversing;           /* the last thing to come was I/O: more may follow; lock */
    _Atomic bool left_behind;  /* this is a forked child: the lock may be held for ever */
    _Atomic int broken;        /* why the executor is to end: see trale_broken; lock */
    bool robbed;               /* somebody has closed our descriptors; lock */

    trale_source **chunks;      /* lock */
    size_t chunk_count;         /* lock */
    trale_source *free_source;  /* lock */

    trale_heap heap;  /* lock */
    int64_t armed;    /* when the alarm will go off; lock */
    int64_t looked;   /* when the executor last looked at epoll; executor's thread */

    int epoll, bell, alarm;
    trale_counts counts;  /* lock */
    struct epoll_event fetched[TRALE_BATCH];  /* executor's thread */
};

/* In a forked child no thread is left to give the lock back. */
static bool enter(trale_engine *e)
{
    if (atomic_load_explicit(&e->left_behind, memory_order_relaxed))
        return false;
    TRALE_LOCK(&e->lock);
    return true;
}

/* The engine is broken, and the executor has to hear of it. The lock is held. Only the first error is
 * kept. */
static void break_down(trale_engine *e, int error)
{
    int sound = 0;
    atomic_compare_exchange_strong_explicit(&e->broken, &sound, error, memory_order_relaxed,
                                            memory_order_relaxed);
    if (e->executor == ASLEEP) {
        e->executor = AWAKE;
        TRALE_SIGNAL(&e->work);
    }
}

void trale_break(trale_engine *e, int error)
{
    if (!enter(e))
        return;
    break_down(e, error);
    TRALE_UNLOCK(&e->lock);
}

/* A call on our own descriptors has failed: somebody has closed them, if we have not. The lock is
 * held. */
static void robbed(trale_engine *e, int error)
{
    if (e->epoll < 0)
        return;
    e->robbed = true;
    break_down(e, error);
}

static void lock_and_tell_robbed(trale_engine *e, int error)
{
    if (!enter(e))
        return;
    robbed(e, error);
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

static void queue(trale_engine *e, trale_cell *cell)
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

/* R1, as it looks with a lock and a condition variable: queue first, then tell, both under the lock.
 * The executor looks at the queue and falls asleep under the same lock, so it sees either the cell
 * or the signal. Only who finds it asleep tells it, and only once. */
static void unlock_and_tell(trale_engine *e)
{
    enum executor was = e->executor;
    if (was != AWAKE && e->head != NULL) {
        e->executor = AWAKE;
        if (was == ASLEEP)
            TRALE_SIGNAL(&e->work);
    }
    bool ring = was == IN_EPOLL && e->executor == AWAKE;
    TRALE_UNLOCK(&e->lock);
    if (ring) {
        int error = TRALE_RING(e->bell);
        if (error != 0)
            lock_and_tell_robbed(e, error);
    }
}

static void wake(trale_engine *e, trale_cell *cell)
{
    if (cell->state == TRALE_WAITING)
        queue(e, cell);
}

bool trale_push(trale_engine *e, trale_cell *cell)
{
    if (!enter(e))
        return true;
    bool new = cell->state == TRALE_NEW;
    if (new)
        queue(e, cell);
    unlock_and_tell(e);
    return new;
}

void trale_wake(trale_engine *e, trale_cell *cell)
{
    if (!enter(e))
        return;
    wake(e, cell);
    unlock_and_tell(e);
}

/* R43: it looks as if the executor need not ask, as it polls what it has taken out. But Python code may
 * have it poll a task that is still in the queue. If that cell were put to wait, a wake from another
 * thread would queue it a second time. It is its own link, so what stood behind it would be lost. */
bool trale_wait_on(trale_engine *e, trale_cell *cell)
{
    if (!enter(e))
        return true;
    bool may = cell->state != TRALE_QUEUED && cell->state != TRALE_ENDED;
    if (may)
        cell->state = TRALE_WAITING;
    TRALE_UNLOCK(&e->lock);
    return may;
}

bool trale_is_waiting(trale_engine *e, trale_cell *cell)
{
    if (!enter(e))
        return false;
    bool waiting = cell->state == TRALE_WAITING;
    TRALE_UNLOCK(&e->lock);
    return waiting;
}

void trale_end(trale_engine *e, trale_cell *cell)
{
    if (!enter(e))
        return;
    cell->state = TRALE_ENDED;
    TRALE_UNLOCK(&e->lock);
}

/* ---- timers ------------------------------------------------------------------------------------ */

int64_t trale_now(void)
{
    return TRALE_CLOCK();
}

/* Set the alarm, unless it goes off in time. One that goes off too early does no harm, so it is
 * never put off. Under the lock, as two threads with different news must not set it in the wrong
 * order. */
static void arm(trale_engine *e)
{
    int64_t next = trale_heap_next(&e->heap);
    if (next >= e->armed)
        return;
    /* 0 would mean: never. */
    struct itimerspec when = {.it_value = trale_timespec(next > 0 ? next : 1)};
    if (timerfd_settime(e->alarm, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        e->armed = next;
    else
        robbed(e, errno);
}

int trale_set_timer(trale_engine *e, trale_timer *timer, int64_t deadline, trale_cell *cell)
{
    if (!enter(e))
        return 0;
    timer->deadline = deadline;
    int error = trale_heap_push(&e->heap, timer);
    if (error == 0) {
        timer->cell = cell;
        trale_cell_ref(cell);
        if (e->reactor_in_epoll)
            arm(e);
    }
    TRALE_UNLOCK(&e->lock);
    return error;
}

bool trale_clear_timer(trale_engine *e, trale_timer *timer)
{
    if (!enter(e))
        return false;
    bool was_set = timer->place != 0;
    if (was_set)
        trale_heap_remove(&e->heap, timer);
    TRALE_UNLOCK(&e->lock);
    return was_set;
}

bool trale_is_set(trale_engine *e, trale_timer *timer)
{
    if (!enter(e))
        return false;
    bool set = timer->place != 0;
    TRALE_UNLOCK(&e->lock);
    return set;
}

size_t trale_timers(trale_engine *e)
{
    if (!enter(e))
        return 0;
    size_t count = e->heap.count;
    TRALE_UNLOCK(&e->lock);
    return count;
}

static size_t fire_timers(trale_engine *e, int64_t now)
{
    size_t fired = 0;
    while (fired < TRALE_BATCH && trale_heap_next(&e->heap) <= now) {
        trale_timer *timer = e->heap.timers[0];
        trale_cell *cell = timer->cell;
        trale_heap_remove(&e->heap, timer);
        wake(e, cell);
        trale_cell_unref(cell);
        fired++;
    }
    return fired;
}

/* ---- sources -------------------------------------------------------------------------------------- */

static void link_waiter(trale_direction *d, trale_waiter *waiter)
{
    waiter->prev = d->waiters.prev;
    waiter->next = &d->waiters;
    waiter->prev->next = waiter->next->prev = waiter;
}

static void unlink_waiter(trale_waiter *waiter)
{
    waiter->prev->next = waiter->next;
    waiter->next->prev = waiter->prev;
    waiter->next = waiter->prev = NULL;
}

/* All, not one: an edge does not say how much there is, and one that was woken and then cancelled
 * would take it to the grave. */
static void wake_all(trale_engine *e, trale_direction *d)
{
    while (d->waiters.next != &d->waiters) {
        trale_waiter *waiter = d->waiters.next;
        trale_cell *cell = waiter->cell;
        unlink_waiter(waiter);
        wake(e, cell);
        trale_cell_unref(cell);
    }
}

static void notify(trale_engine *e, trale_direction *d, bool more)
{
    if (more)
        atomic_store_explicit(&d->more, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->events, 1, memory_order_release);
    wake_all(e, d);
}

static void add_waiter(trale_direction *d, trale_waiter *waiter, trale_cell *cell)
{
    trale_cell_ref(cell);
    if (waiter->next == NULL)
        link_waiter(d, waiter);
    else
        trale_cell_unref(waiter->cell);
    waiter->cell = cell;
}

void trale_add_waiter(trale_engine *e, trale_direction *d, trale_waiter *waiter, trale_cell *cell)
{
    if (!enter(e))
        return;
    add_waiter(d, waiter, cell);
    TRALE_UNLOCK(&e->lock);
}

bool trale_wait_for(trale_engine *e, trale_direction *d, trale_waiter *waiter, trale_cell *cell)
{
    if (!enter(e))
        return true;
    /* R4 needs no second look here: the reactor counts and wakes under the same lock. */
    bool wait = !trale_ready(d);
    if (wait)
        add_waiter(d, waiter, cell);
    TRALE_UNLOCK(&e->lock);
    return wait;
}

bool trale_stop_waiting(trale_engine *e, trale_waiter *waiter)
{
    if (!enter(e))
        return false;
    bool waited = waiter->next != NULL;
    if (waited)
        unlink_waiter(waiter);
    TRALE_UNLOCK(&e->lock);
    return waited;
}

void trale_wake_waiters(trale_engine *e, trale_direction *d)
{
    if (!enter(e))
        return;
    wake_all(e, d);
    unlock_and_tell(e);
}

static int add_chunk(trale_engine *e)
{
    trale_source **chunks = realloc(e->chunks, (e->chunk_count + 1) * sizeof *chunks);
    if (chunks == NULL)
        return -ENOMEM;
    e->chunks = chunks;
    trale_source *chunk = calloc(CHUNK, sizeof *chunk);
    if (chunk == NULL)
        return -ENOMEM;
    for (size_t i = CHUNK; i-- > 0;) {
        chunk[i].slot = (uint32_t)(e->chunk_count * CHUNK + i);
        chunk[i].free = e->free_source;
        e->free_source = &chunk[i];
    }
    e->chunks[e->chunk_count++] = chunk;
    return 0;
}

static void reset(trale_direction *d)
{
    /* A new source counts as ready: the first try will tell. */
    atomic_store_explicit(&d->events, 1, memory_order_relaxed);
    atomic_store_explicit(&d->more, false, memory_order_relaxed);
    d->seen = 0;
    d->waiters.next = d->waiters.prev = &d->waiters;
}

static int control(trale_engine *e, int operation, const trale_source *s)
{
    struct epoll_event event = {
        .events = MASK,
        .data.u64 = (uint64_t)s->generation << 32 | s->slot,
    };
    return epoll_ctl(e->epoll, operation, s->fd, &event) < 0 ? -errno : 0;
}

/* What failed may be due to our own descriptors. If they are what they were, this changes nothing. */
static void look_after_our_own(trale_engine *e)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = BELL};
    if (epoll_ctl(e->epoll, EPOLL_CTL_MOD, e->bell, &event) < 0)
        lock_and_tell_robbed(e, errno);
}

static void free_source(trale_engine *e, trale_source *s)
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
    if (!enter(e))
        return -EBADF;
    int error = e->free_source == NULL ? add_chunk(e) : 0;
    trale_source *s = e->free_source;
    if (error == 0) {
        e->free_source = s->free;
        if (s->generation == 0)
            s->generation = 1;
        s->fd = fd;
        reset(&s->direction[TRALE_READ]);
        reset(&s->direction[TRALE_WRITE]);
    }
    TRALE_UNLOCK(&e->lock);
    if (error != 0)
        return error;
    *source = s;
    error = control(e, EPOLL_CTL_ADD, s);
    if (error == -EBADF || error == -EINVAL)
        look_after_our_own(e);
    return error;
}

int trale_rearm(trale_engine *e, trale_source *source)
{
    return control(e, EPOLL_CTL_MOD, source);
}

void trale_unwatch(trale_engine *e, trale_source *source)
{
    if (atomic_load_explicit(&e->left_behind, memory_order_relaxed))
        return;
    /* ENOENT, EBADF: it was closed behind our back, which ended the watching too. */
    control(e, EPOLL_CTL_DEL, source);
    TRALE_LOCK(&e->lock);
    wake_all(e, &source->direction[TRALE_READ]);
    wake_all(e, &source->direction[TRALE_WRITE]);
    free_source(e, source);
    unlock_and_tell(e);
}

static void deliver(trale_engine *e, const struct epoll_event *event)
{
    uint64_t id = event->data.u64;
    if (id == BELL)
        return;
    if (id == ALARM) {
        e->armed = TRALE_NEVER;
        return;
    }
    e->counts.events++;
    uint32_t slot = (uint32_t)id;
    trale_source *s = &e->chunks[slot / CHUNK][slot % CHUNK];
    if (s->generation != id >> 32) {
        e->counts.stale++;
        return;
    }
    bool more = event->events & NOT_DRAINED;
    if (event->events & READABLE)
        notify(e, &s->direction[TRALE_READ], more);
    if (event->events & WRITABLE)
        notify(e, &s->direction[TRALE_WRITE], more);
    e->conversing = true;
}

/* Take what epoll_wait brought, and the timers that are due. */
static void collect(trale_engine *e, const struct epoll_event *events, int n, int64_t now)
{
    e->counts.epoll_returns++;
    for (int i = 0; i < n; i++)
        deliver(e, &events[i]);
    fire_timers(e, now);
}

/* ---- the executor ------------------------------------------------------------------------------ */

size_t trale_begin_batch(trale_engine *e)
{
    int64_t now = TRALE_CLOCK();
    int n = -1;
    if (atomic_load_explicit(&e->queued, memory_order_relaxed) == 0 || now - e->looked >= TRALE_LOOK_NS) {
        n = TRALE_EPOLL_WAIT(e->epoll, e->fetched, TRALE_BATCH, 0);
        if (n < 0 && errno != EINTR)
            lock_and_tell_robbed(e, errno);
        e->looked = now;
    }
    if (!enter(e))
        return 0;
    if (n >= 0)
        collect(e, e->fetched, n, now);
    else
        fire_timers(e, now);
    if (e->reactor_in_epoll)
        arm(e);
    e->batch = atomic_load_explicit(&e->queued, memory_order_relaxed);
    TRALE_UNLOCK(&e->lock);
    return e->batch;
}

static trale_cell *pop(trale_engine *e)
{
    if (!enter(e))
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
    return pop(e);
}

trale_cell *trale_drain(trale_engine *e)
{
    return pop(e);
}

size_t trale_queued(trale_engine *e)
{
    return atomic_load_explicit(&e->queued, memory_order_relaxed);
}

/* Wait a while in epoll, in place of the reactor. The lock is held before and after. */
static void wait_in_epoll(trale_engine *e, bool a_moment)
{
    e->executor = IN_EPOLL;
    e->conversing = false;
    arm(e);
    TRALE_UNLOCK(&e->lock);
    int n = a_moment ? TRALE_EPOLL_WAIT_NS(e->epoll, e->fetched, TRALE_BATCH, TRALE_MOMENT_NS)
                     : TRALE_EPOLL_WAIT(e->epoll, e->fetched, TRALE_BATCH, TRALE_GRACE_MS);
    int64_t now = TRALE_CLOCK();
    TRALE_LOCK(&e->lock);
    e->executor = AWAKE;
    collect(e, e->fetched, n, now);
    e->looked = now;
}

bool trale_wait_a_moment(trale_engine *e)
{
    if (!enter(e))
        return false;
    if (e->head == NULL && e->conversing)
        wait_in_epoll(e, true);
    bool found = e->head != NULL;
    TRALE_UNLOCK(&e->lock);
    return found;
}

/* Sleep until there is work. R42: somebody may have closed the alarm's descriptor; epoll forgets it then
 * and does not say so, and with the reactor in epoll and the executor asleep nobody would ever look
 * at the timers again. So a deadline that is long over wakes the executor, which looks after its timers,
 * sets the alarm anew, and finds out. The lock is held before and after. */
static void wait_for_work(trale_engine *e)
{
    while (e->head == NULL && trale_broken(e) == 0) {
        int64_t next = trale_heap_next(&e->heap);
        if (next > TRALE_NEVER - LATE_NS) {
            TRALE_WAIT(&e->work, &e->lock);
        } else if (TRALE_CLOCK() >= next + LATE_NS) {
            e->armed = TRALE_NEVER;
            return;
        } else {
            TRALE_WAIT_UNTIL(&e->work, &e->lock, next + LATE_NS);
        }
    }
}

void trale_park(trale_engine *e)
{
    int64_t soon = TRALE_CLOCK() + GRACE_NS;
    if (!enter(e))
        return;
    if (e->head == NULL && (e->conversing || trale_heap_next(&e->heap) < soon))
        wait_in_epoll(e, false);
    if (e->head == NULL) {
        e->executor = ASLEEP;
        e->counts.parks++;
        arm(e);
        TRALE_SIGNAL(&e->duty);
        wait_for_work(e);
        e->executor = AWAKE;
    }
    TRALE_UNLOCK(&e->lock);
}

/* ---- the reactor ------------------------------------------------------------------------------- */

/* Park while the executor looks after epoll itself: until it is asleep, or stuck. The lock is held. */
static void leave_it_to_the_executor(trale_engine *e)
{
    while (e->executor != ASLEEP && !e->stopping) {
        uint64_t turn = atomic_load_explicit(&e->turn, memory_order_relaxed);
        TRALE_WAIT_UNTIL(&e->duty, &e->lock, TRALE_CLOCK() + TRALE_STUCK_NS);
        if (e->executor == AWAKE && turn == atomic_load_explicit(&e->turn, memory_order_relaxed))
            return;
    }
}

int trale_run_reactor(trale_engine *e)
{
    struct epoll_event events[TRALE_BATCH];
    int n = 0;
    TRALE_LOCK(&e->lock);
    while (!e->stopping && n >= 0) {
        leave_it_to_the_executor(e);
        if (e->stopping)
            break;
        e->reactor_in_epoll = true;
        arm(e);
        TRALE_UNLOCK(&e->lock);
        n = TRALE_EPOLL_WAIT(e->epoll, events, TRALE_BATCH, -1);
        if (n < 0)
            n = errno == EINTR ? 0 : -errno;
        int64_t now = TRALE_CLOCK();
        TRALE_LOCK(&e->lock);
        e->reactor_in_epoll = false;
        size_t before = e->queued;
        if (n >= 0)
            collect(e, events, n, now);
        else
            robbed(e, -n);
        if (e->executor == AWAKE)
            e->counts.collected += e->queued - before;
        unlock_and_tell(e);
        TRALE_LOCK(&e->lock);
    }
    TRALE_UNLOCK(&e->lock);
    return n < 0 ? n : 0;
}

int trale_stop_reactor(trale_engine *e)
{
    if (!enter(e))
        return 0;
    e->stopping = true;
    TRALE_SIGNAL(&e->duty);
    TRALE_UNLOCK(&e->lock);
    int error = TRALE_RING(e->bell);
    if (error != 0)
        lock_and_tell_robbed(e, error);
    return -error;
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
    e->epoll = e->bell = e->alarm = -1;
    return e;
}

static int add_own(trale_engine *e, int fd, uint64_t id)
{
    /* Edge-triggered: each ring and each alarm is told once, and nobody has to read it off. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = id};
    return epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &event);
}

int trale_open(trale_engine *e)
{
    int error;
    if (e->epoll >= 0)
        return -EALREADY;
    if ((e->epoll = epoll_create1(EPOLL_CLOEXEC)) >= 0
        && (e->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0
        && (e->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) >= 0
        && add_own(e, e->bell, BELL) == 0 && add_own(e, e->alarm, ALARM) == 0)
        return 0;
    error = -errno;
    trale_close(e);
    return error;
}

static void close_fd(trale_engine *e, int *fd)
{
    /* If somebody has closed them, the numbers may be another's by now. */
    if (*fd >= 0 && !e->robbed)
        close(*fd);
    *fd = -1;
}

void trale_close(trale_engine *e)
{
    close_fd(e, &e->alarm);
    close_fd(e, &e->bell);
    close_fd(e, &e->epoll);
}

void trale_stay_behind(trale_engine *e)
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
    if (!enter(e))
        return;
    *counts = e->counts;
    TRALE_UNLOCK(&e->lock);
}
