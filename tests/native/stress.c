/* Everything at once: an executor, the reactor, threads that wake and push, and peers at the other
 * ends of sockets. The tasks are small machines that begin where they were when they are polled, as
 * tasks do.
 *
 * The accounts
 *     pushes  every cell that was pushed is taken once.
 *     wakes   whoever wakes counts it in `asked` before. The executor writes down what it reads there
 *             after trale_wait_on. It goes on until the two are equal for each task, so a wake that is
 *             lost is an executor that never wakes up again; the alarm ends it.
 *     timers  each that is set is cleared, or has fired and woken, and not early.
 *     bytes   what one side sent, the other one has read, and then the end.
 *     memory  the caller of stress() finds that nothing is left.
 */

#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../../native/engine/engine.h"
#include "check.h"

#ifndef STRESS_TURNS
#define STRESS_TURNS 60000  /* of each waking thread */
#endif

enum { PLAIN = 12, SLEEPERS = 12, READERS = 4, WRITERS = 2, CHURNERS = 2, WAKERS = 3 };
enum { TASKS = PLAIN + SLEEPERS + READERS + WRITERS + CHURNERS };
enum { NAPS = 400, BYTES = 2000000, CHURNS = 2000 };

typedef struct task {
    trale_cell *cell;
    bool (*poll)(struct task *);  /* true: it has ended */
    atomic_ulong asked;           /* wakes, counted before each */
    unsigned long seen;           /* of these, before the last poll */
    unsigned seed;
    bool ended;
    trale_timer timer;
    trale_waiter waiter;
    trale_source *source;
    int fd, peer;
    long left;  /* naps, bytes, or sources that are still to come */
} task;

static trale_engine *engine;
static task tasks[TASKS];
static atomic_ulong pushed;
static unsigned long taken, fired, cleared, set;

/* ---- tasks --------------------------------------------------------------------------------- */

static void set_timer(task *t, int64_t ns)
{
    CHECK(trale_set_timer(engine, &t->timer, trale_now() + ns, t->cell) == 0);
    set++;
}

/* True: it had not fired. */
static bool clear_timer(task *t)
{
    trale_cell *cell = t->timer.cell;
    if (!trale_clear_timer(engine, &t->timer))
        return false;
    CHECK(cell == t->cell);
    trale_cell_unref(cell);
    cleared++;
    return true;
}

static bool poll_plain(task *t)
{
    if (rand_r(&t->seed) % 8 == 0) {  /* a wake during the poll: it is polled once more */
        atomic_fetch_add(&t->asked, 1);
        trale_wake(engine, t->cell);
    }
    return false;
}

static bool poll_sleeper(task *t)
{
    if (t->timer.cell != NULL) {
        bool again = rand_r(&t->seed) % 4 == 0;
        if (!again && trale_now() < t->timer.deadline)
            return false;  /* woken by somebody else; the timer stays */
        if (!clear_timer(t)) {
            CHECK(trale_now() >= t->timer.deadline);
            fired++;
            t->left--;
        }
        t->timer.cell = NULL;
    }
    if (t->left <= 0)
        return true;
    set_timer(t, rand_r(&t->seed) % 1500 * 1000);
    return false;
}

/* Wait for the direction of which `tick` was seen. False: it is ready already. */
static bool wait_for(task *t, trale_direction *d, uint64_t tick)
{
    d->seen = tick;
    return trale_wait_for(engine, d, &t->waiter, t->cell);
}

static bool poll_reader(task *t)
{
    trale_direction *d = &t->source->direction[TRALE_READ];
    char place[3000];
    for (;;) {
        uint64_t tick = atomic_load(&d->events);
        if (tick == d->seen) {
            if (trale_wait_for(engine, d, &t->waiter, t->cell))
                return false;
            continue;
        }
        ssize_t n = recv(t->fd, place, 1 + (size_t)rand_r(&t->seed) % sizeof place, 0);
        if (n == 0)
            return true;
        if (n > 0)
            t->left -= n;
        else if (wait_for(t, d, tick))
            return false;
    }
}

static bool poll_writer(task *t)
{
    static const char zeros[5000];
    trale_direction *d = &t->source->direction[TRALE_WRITE];
    while (t->left > 0) {
        uint64_t tick = atomic_load(&d->events);
        size_t size = sizeof zeros < (size_t)t->left ? sizeof zeros : (size_t)t->left;
        ssize_t n = send(t->fd, zeros, size, MSG_NOSIGNAL);
        if (n > 0)
            t->left -= n;
        else if (wait_for(t, d, tick))
            return false;
    }
    shutdown(t->fd, SHUT_WR);
    return true;
}

static void make_pair(int *ours, int *peer)
{
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    *ours = fds[0];
    *peer = fds[1];
}

/* Watch, wait or not, and go away: with the event on its way, with a waiter, with neither. */
static bool poll_churner(task *t)
{
    if (t->source != NULL) {
        if (rand_r(&t->seed) % 3 == 0 && trale_stop_waiting(engine, &t->waiter))
            trale_cell_unref(t->cell);
        trale_unwatch(engine, t->source);
        CHECK(!trale_stop_waiting(engine, &t->waiter));
        t->source = NULL;
        close(t->fd);
        close(t->peer);
    }
    if (t->left-- <= 0)
        return true;
    make_pair(&t->fd, &t->peer);
    CHECK(trale_watch(engine, t->fd, &t->source) == 0);
    trale_direction *d = &t->source->direction[TRALE_READ];
    bool waits = rand_r(&t->seed) % 2;
    if (waits)
        trale_add_waiter(engine, d, &t->waiter, t->cell);
    CHECK(write(t->peer, "x", 1) == 1);
    if (!waits || rand_r(&t->seed) % 4 == 0) {
        atomic_fetch_add(&t->asked, 1);
        trale_wake(engine, t->cell);
    }
    return false;
}

/* ---- the executor ------------------------------------------------------------------------------ */

static void poll(task *t)
{
    if (t->ended) {
        t->seen = atomic_load(&t->asked);
        return;
    }
    trale_wait_on(engine, t->cell);
    t->seen = atomic_load(&t->asked);
    if (t->poll(t)) {
        t->ended = true;
        trale_end(engine, t->cell);
    }
}

static bool all_is_done(void)
{
    if (taken < atomic_load(&pushed))
        return false;
    for (task *t = tasks; t < tasks + TASKS; t++)
        if (!t->ended && (t->poll != poll_plain || t->seen != atomic_load(&t->asked)))
            return false;
    return true;
}

static atomic_bool wakers_done;

/* Takes cells until all is done; the last to come to it is the waker that says so. */
static void execute(void)
{
    unsigned long turns = 0;
    unsigned seed = 1;
    while (!atomic_load(&wakers_done) || !all_is_done()) {
        while (trale_begin_batch(engine) == 0)
            trale_park(engine);
        for (trale_cell *cell; (cell = trale_take(engine)) != NULL; trale_cell_unref(cell)) {
            if (cell->owner == NULL)
                taken++;
            else
                poll(cell->owner);
            if (++turns % 1024 == 0)
                usleep((useconds_t)rand_r(&seed) % 6000);  /* stuck: the reactor takes over */
        }
    }
}

/* ---- the other threads ---------------------------------------------------------------------------- */

static void *waker(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;
    for (int i = 0; i < STRESS_TURNS; i++) {
        unsigned r = (unsigned)rand_r(&seed);
        if (r % 8 == 0) {
            trale_cell *cell = trale_cell_new(NULL, 0);
            CHECK(cell != NULL);
            atomic_fetch_add(&pushed, 1);
            trale_push(engine, cell);
            trale_cell_unref(cell);
        } else {
            task *t = &tasks[r / 8 % TASKS];
            atomic_fetch_add(&t->asked, 1);
            trale_wake(engine, t->cell);
            if (r % 32 == 1) {  /* whatever it is by now: anybody may ask */
                trale_is_waiting(engine, t->cell);
                trale_is_set(engine, &t->timer);
            }
        }
        if (r % 64 == 1)
            sched_yield();
        if (r % 256 == 2)
            usleep((useconds_t)rand_r(&seed) % 5000);  /* long enough for the executor to fall asleep */
    }
    return NULL;
}

static void *feed(void *task_of)
{
    const task *t = task_of;
    static const char zeros[4000];
    unsigned seed = (unsigned)t->peer;
    for (long left = BYTES; left > 0;) {
        size_t size = 1 + (size_t)rand_r(&seed) % sizeof zeros;
        ssize_t n = send(t->peer, zeros, size < (size_t)left ? size : (size_t)left, MSG_NOSIGNAL);
        CHECK(n > 0);
        left -= n;
        if (rand_r(&seed) % 8 == 0)
            usleep((useconds_t)rand_r(&seed) % 1500);
    }
    shutdown(t->peer, SHUT_WR);
    return NULL;
}

static void *eat(void *task_of)
{
    const task *t = task_of;
    char place[3000];
    unsigned seed = (unsigned)t->peer;
    long got = 0;
    for (ssize_t n; (n = recv(t->peer, place, sizeof place, 0)) > 0; got += n)
        if (rand_r(&seed) % 8 == 0)
            usleep((useconds_t)rand_r(&seed) % 1500);
    CHECK(got == BYTES);
    return NULL;
}

static void *run_reactor(void *unused)
{
    (void)unused;
    CHECK(trale_run_reactor(engine) == 0);
    return NULL;
}

static void *join_wakers(void *threads)
{
    for (int i = 0; i < WAKERS; i++)
        CHECK(pthread_join(((pthread_t *)threads)[i], NULL) == 0);
    atomic_store(&wakers_done, true);
    trale_cell *cell = trale_cell_new(NULL, 0);  /* or the executor may sleep, with all done */
    CHECK(cell != NULL);
    atomic_fetch_add(&pushed, 1);
    trale_push(engine, cell);
    trale_cell_unref(cell);
    return NULL;
}

/* ---- all of it --------------------------------------------------------------------------------- */

static pthread_t start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    return thread;
}

static task *add_tasks(task *t, int count, bool (*poll_it)(task *), long left)
{
    for (int i = 0; i < count; i++, t++) {
        *t = (task){.poll = poll_it, .left = left, .seed = (unsigned)(t - tasks) + 1};
        CHECK((t->cell = trale_cell_new(t, 0)) != NULL);
        if (poll_it == poll_reader || poll_it == poll_writer) {
            make_pair(&t->fd, &t->peer);
            CHECK(trale_watch(engine, t->fd, &t->source) == 0);
        }
        trale_push(engine, t->cell);
    }
    return t;
}

void stress(void)
{
    engine = trale_new();
    CHECK(engine != NULL && trale_open(engine) == 0);
    task *t = add_tasks(tasks, PLAIN, poll_plain, 0);
    t = add_tasks(t, SLEEPERS, poll_sleeper, NAPS);
    task *readers = t, *writers = t = add_tasks(t, READERS, poll_reader, BYTES);
    t = add_tasks(t, WRITERS, poll_writer, BYTES);
    t = add_tasks(t, CHURNERS, poll_churner, CHURNS);
    CHECK(t == tasks + TASKS);

    pthread_t reactor = start(run_reactor, NULL), peers[READERS + WRITERS], wakers[WAKERS];
    for (int i = 0; i < READERS; i++)
        peers[i] = start(feed, &readers[i]);
    for (int i = 0; i < WRITERS; i++)
        peers[READERS + i] = start(eat, &writers[i]);
    for (int i = 0; i < WAKERS; i++)
        wakers[i] = start(waker, (void *)(uintptr_t)(i + 1));
    pthread_t joiner = start(join_wakers, wakers);
    execute();
    CHECK(pthread_join(joiner, NULL) == 0);
    for (int i = 0; i < READERS + WRITERS; i++)
        CHECK(pthread_join(peers[i], NULL) == 0);
    trale_stop_reactor(engine);
    CHECK(pthread_join(reactor, NULL) == 0);

    CHECK(taken == atomic_load(&pushed));
    CHECK(set == fired + cleared && fired == SLEEPERS * NAPS && trale_timers(engine) == 0);
    for (t = tasks; t < tasks + TASKS; t++) {
        bool socket = t->poll == poll_reader || t->poll == poll_writer;
        CHECK(!socket || t->left == 0);
        if (socket) {
            trale_unwatch(engine, t->source);
            close(t->fd);
            close(t->peer);
        }
    }
    for (trale_cell *cell; (cell = trale_drain(engine)) != NULL; trale_cell_unref(cell))
        CHECK(cell->owner != NULL);  /* a stray wake of a plain task, and no push */
    for (t = tasks; t < tasks + TASKS; t++) {
        CHECK(t->cell->refs == 1);
        trale_cell_unref(t->cell);
    }
    trale_counts counts;
    trale_count(engine, &counts);
    printf("    stress: %lu pushes, %lu timers, %llu events, %llu stale, %llu parks, %llu collected\n",
           taken, set, (unsigned long long)counts.events, (unsigned long long)counts.stale,
           (unsigned long long)counts.parks, (unsigned long long)counts.collected);
    CHECK(counts.parks > 0 && counts.events > 0 && counts.collected > 0);
    trale_close(engine);
    trale_free(engine);
}
