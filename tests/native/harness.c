/* Tests of the engine that need neither Python nor luck: each calls it from one thread, or makes
 * the meeting of two happen. stress.c has those that need many threads and many tries.
 *
 * The engine is included, not linked: a few tests look inside, to hold its lock or to deliver an
 * event late. */

#include "engine_whole.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "check.h"
#include "stress.h"

#define MS (TRALE_NS / 1000)

static trale_engine *opened(void)
{
    trale_engine *e = trale_new();
    CHECK(e != NULL && trale_open(e) == 0);
    return e;
}

static void closed(trale_engine *e)
{
    trale_close(e);
    trale_free(e);
}

static trale_cell *cell_of(void *owner)
{
    trale_cell *cell = trale_cell_new(owner, 0);
    CHECK(cell != NULL);
    return cell;
}

static trale_cell *waiting_cell(trale_engine *e)
{
    trale_cell *cell = cell_of(NULL);
    trale_wait_on(e, cell);
    return cell;
}

/* Take the next cell of the queue, which has to be this one. */
static void take(trale_engine *e, trale_cell *expected)
{
    trale_cell *cell = trale_drain(e);
    CHECK(cell == expected);
    if (cell != NULL)
        trale_cell_unref(cell);
}

static void sleep_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

/* ---- the queue ---------------------------------------------------------------------------- */

static void test_cells_come_out_in_the_order_they_went_in(void)
{
    trale_engine *e = opened();
    trale_cell *cells[5];
    for (int i = 0; i < 5; i++) {
        cells[i] = i % 2 ? waiting_cell(e) : cell_of(NULL);
        if (i % 2)
            trale_wake(e, cells[i]);
        else
            trale_push(e, cells[i]);
    }
    CHECK(trale_queued(e) == 5 && trale_begin_batch(e) == 5);
    for (int i = 0; i < 5; i++) {
        trale_cell *cell = trale_take(e);
        CHECK(cell == cells[i]);
        trale_cell_unref(cell);
        trale_cell_unref(cells[i]);
    }
    CHECK(trale_take(e) == NULL && trale_queued(e) == 0 && trale_begin_batch(e) == 0);
    closed(e);
}

static void test_what_comes_during_a_batch_is_of_the_next(void)
{
    trale_engine *e = opened();
    trale_cell *a = waiting_cell(e), *b = cell_of(NULL);
    trale_wake(e, a);
    CHECK(trale_begin_batch(e) == 1 && trale_take(e) == a);
    trale_cell_unref(a);
    trale_wait_on(e, a);
    trale_wake(e, a);  /* it wakes itself */
    trale_push(e, b);
    CHECK(trale_take(e) == NULL && trale_queued(e) == 2 && trale_begin_batch(e) == 2);
    CHECK(trale_take(e) == a && trale_take(e) == b && trale_take(e) == NULL);
    for (int i = 0; i < 2; i++) {
        trale_cell_unref(a);
        trale_cell_unref(b);
    }
    closed(e);
}

static void test_only_a_waiting_cell_is_queued_by_a_wake(void)
{
    trale_engine *e = opened();
    trale_cell *cell = cell_of(NULL);
    trale_wake(e, cell);
    CHECK(trale_queued(e) == 0);  /* TRALE_NEW */
    trale_push(e, cell);
    trale_wake(e, cell);
    CHECK(trale_queued(e) == 1);  /* TRALE_QUEUED */
    take(e, cell);
    trale_wake(e, cell);
    CHECK(trale_queued(e) == 0);  /* TRALE_TAKEN */
    trale_wait_on(e, cell);
    trale_wake(e, cell);
    trale_wake(e, cell);
    CHECK(trale_queued(e) == 1);  /* TRALE_WAITING, woken twice */
    take(e, cell);
    CHECK(!trale_is_waiting(e, cell));
    trale_wait_on(e, cell);
    CHECK(trale_is_waiting(e, cell));
    trale_end(e, cell);
    trale_wake(e, cell);
    CHECK(trale_queued(e) == 0);  /* TRALE_ENDED */
    CHECK(cell->refs == 1);
    trale_cell_unref(cell);
    closed(e);
}

static void test_R43_a_cell_has_one_place_in_the_queue(void)
{
    trale_engine *e = opened();
    trale_cell *cell = cell_of(NULL);
    CHECK(trale_push(e, cell) && !trale_push(e, cell));
    CHECK(!trale_wait_on(e, cell));
    trale_wake(e, cell);
    CHECK(trale_queued(e) == 1);
    take(e, cell);
    CHECK(!trale_push(e, cell) && trale_wait_on(e, cell));
    trale_end(e, cell);
    CHECK(!trale_push(e, cell) && !trale_wait_on(e, cell));
    CHECK(trale_queued(e) == 0 && cell->refs == 1);
    trale_cell_unref(cell);
    closed(e);
}

static void test_R2_a_wake_during_the_poll_queues_it_once_more(void)
{
    trale_engine *e = opened();
    trale_cell *cell = waiting_cell(e);
    trale_wake(e, cell);
    CHECK(trale_begin_batch(e) == 1 && trale_take(e) == cell);
    trale_cell_unref(cell);
    trale_wait_on(e, cell);  /* the poll begins */
    trale_wake(e, cell);
    trale_wake(e, cell);
    CHECK(trale_queued(e) == 1);
    take(e, cell);
    take(e, NULL);
    trale_cell_unref(cell);
    closed(e);
}

static void test_a_cell_that_ends_in_the_queue_still_comes_out(void)
{
    trale_engine *e = opened();
    trale_cell *cell = waiting_cell(e);
    trale_wake(e, cell);
    trale_end(e, cell);
    trale_cell_unref(cell);  /* the queue's reference is the last */
    CHECK(trale_begin_batch(e) == 1);
    trale_cell *taken = trale_take(e);
    CHECK(taken == cell && taken->state == TRALE_ENDED && taken->refs == 1);
    trale_cell_unref(taken);
    closed(e);
}

/* ---- timers -------------------------------------------------------------------------------- */

/* The order that the header promises. */
static bool is_before(const trale_timer *a, const trale_timer *b)
{
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->order < b->order;
}

static void check_heap(const trale_heap *heap)
{
    for (size_t i = 0; i < heap->count; i++) {
        CHECK(heap->timers[i]->place == i + 1);
        CHECK(i == 0 || !is_before(heap->timers[i], heap->timers[(i - 1) / 2]));
    }
}

static void test_the_heap_sorts_with_ties_and_removals(void)
{
    enum { N = 700 };  /* it grows four times */
    static trale_timer timers[N];
    for (unsigned seed = 1; seed <= 20; seed++) {
        trale_heap heap = {0};
        memset(timers, 0, sizeof timers);
        for (size_t i = 0; i < N; i++) {
            timers[i].deadline = rand_r(&seed) % 97;  /* many are equal */
            CHECK(trale_heap_push(&heap, &timers[i]) == 0);
        }
        check_heap(&heap);
        for (size_t i = 0; i < N; i += 3) {
            trale_heap_remove(&heap, &timers[i]);
            CHECK(timers[i].place == 0);
        }
        check_heap(&heap);
        for (size_t i = 0; i < N; i += 6) {  /* some come back, with a new order */
            timers[i].deadline = -1;
            CHECK(trale_heap_push(&heap, &timers[i]) == 0);
        }
        check_heap(&heap);
        size_t left = heap.count;
        const trale_timer *last = NULL;
        while (heap.count > 0) {
            trale_timer *timer = heap.timers[0];
            CHECK(trale_heap_next(&heap) == timer->deadline);
            CHECK(last == NULL || is_before(last, timer));
            last = timer;
            trale_heap_remove(&heap, timer);
            left--;
        }
        CHECK(left == 0 && trale_heap_next(&heap) == TRALE_NEVER);
        trale_heap_free(&heap);
    }
}

static void test_timers_fire_in_order_and_not_early(void)
{
    trale_engine *e = opened();
    trale_timer timers[4] = {0};
    trale_cell *cells[4];
    int64_t now = trale_now();
    const int64_t deadlines[4] = {now + 20 * MS, now - 1, now - 1, now + 10 * MS};
    for (int i = 0; i < 4; i++) {
        cells[i] = waiting_cell(e);
        CHECK(trale_set_timer(e, &timers[i], deadlines[i], cells[i]) == 0 && cells[i]->refs == 2);
    }
    CHECK(trale_timers(e) == 4 && trale_begin_batch(e) == 2);
    take(e, cells[1]);
    take(e, cells[2]);
    while (trale_begin_batch(e) == 0) {}
    CHECK(trale_now() >= deadlines[3] && trale_now() < deadlines[0]);
    take(e, cells[3]);
    trale_timer *last = &timers[0];
    CHECK(trale_is_set(e, last) && !trale_is_set(e, &timers[3]));
    CHECK(trale_clear_timer(e, last));
    trale_cell_unref(last->cell);
    CHECK(!trale_clear_timer(e, last) && trale_timers(e) == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(cells[i]->refs == 1);
        trale_cell_unref(cells[i]);
    }
    closed(e);
}

static void test_deadlines_at_the_ends_of_time(void)
{
    trale_engine *e = opened();
    const int64_t past[] = {INT64_MIN, -1, 0, 1};
    trale_cell *cell = cell_of(NULL);
    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        trale_timer timer = {0};
        trale_wait_on(e, cell);
        CHECK(trale_set_timer(e, &timer, past[i], cell) == 0);
        trale_park(e);  /* the alarm is set for it, and goes off */
        CHECK(trale_begin_batch(e) == 1);
        take(e, cell);
    }
    trale_timer never = {0}, nearly = {0};
    CHECK(trale_set_timer(e, &never, TRALE_NEVER, cell) == 0);
    CHECK(trale_set_timer(e, &nearly, TRALE_NEVER - 1, cell) == 0);
    CHECK(trale_begin_batch(e) == 0 && trale_timers(e) == 2);
    CHECK(trale_clear_timer(e, &never) && trale_clear_timer(e, &nearly));
    for (int i = 0; i < 3; i++)
        trale_cell_unref(cell);
    closed(e);
}

static void test_more_timers_than_a_batch(void)
{
    enum { N = 3 * TRALE_BATCH };
    static trale_timer timers[N];
    static trale_cell *cells[N];
    trale_engine *e = opened();
    int64_t now = trale_now();
    for (int i = 0; i < N; i++) {
        cells[i] = waiting_cell(e);
        CHECK(trale_set_timer(e, &timers[i], now - 1, cells[i]) == 0);
    }
    int taken = 0;
    while (taken < N) {
        size_t batch = trale_begin_batch(e);
        CHECK(batch > 0 && batch <= TRALE_BATCH);
        for (trale_cell *cell; (cell = trale_take(e)) != NULL; trale_cell_unref(cell))
            CHECK(cell == cells[taken++]);
    }
    CHECK(trale_timers(e) == 0 && trale_begin_batch(e) == 0);
    for (int i = 0; i < N; i++) {
        CHECK(cells[i]->refs == 1);
        trale_cell_unref(cells[i]);
    }
    closed(e);
}

/* ---- sources -------------------------------------------------------------------------------- */

static void make_pair(int fds[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

static void send_byte(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

/* Say that a call on this direction has said "would block". */
static void block(trale_direction *d)
{
    d->seen = atomic_load(&d->events);
}

/* Have the engine look at epoll, as the executor does when it has nothing else. */
static void look(trale_engine *e)
{
    trale_begin_batch(e);
}

static void test_a_direction_is_ready_until_it_blocks_and_after_each_event(void)
{
    trale_engine *e = opened();
    int fds[2];
    make_pair(fds);
    trale_source *s;
    CHECK(trale_watch(e, fds[0], &s) == 0);
    trale_direction *d = &s->direction[TRALE_READ];
    trale_waiter waiter = {0};
    trale_cell *cell = waiting_cell(e);
    CHECK(trale_ready(d) && !trale_wait_for(e, d, &waiter, cell) && waiter.next == NULL);
    look(e);
    block(d);
    CHECK(!trale_ready(d));
    CHECK(trale_wait_for(e, d, &waiter, cell));
    CHECK(trale_wait_for(e, d, &waiter, cell) && cell->refs == 2);  /* stays where it is */
    send_byte(fds[1]);
    look(e);
    CHECK(trale_ready(d) && waiter.next == NULL);
    take(e, cell);
    CHECK(!trale_stop_waiting(e, &waiter) && cell->refs == 1);
    CHECK(!atomic_load(&d->more));

    block(d);
    trale_wait_on(e, cell);
    CHECK(trale_wait_for(e, d, &waiter, cell) && trale_stop_waiting(e, &waiter));
    trale_cell_unref(cell);  /* its reference came back to us */
    send_byte(fds[1]);
    look(e);
    CHECK(trale_ready(d) && trale_queued(e) == 0);  /* nobody waits, and it is ready still */

    trale_unwatch(e, s);
    CHECK(cell->refs == 1);
    trale_cell_unref(cell);
    close(fds[0]);
    close(fds[1]);
    closed(e);
}

static void test_all_waiters_are_woken_in_order(void)
{
    trale_engine *e = opened();
    int fds[2];
    make_pair(fds);
    trale_source *s;
    CHECK(trale_watch(e, fds[0], &s) == 0);
    look(e);
    trale_waiter waiters[3] = {0};
    trale_cell *cells[3];
    for (int i = 0; i < 3; i++)
        trale_add_waiter(e, &s->direction[TRALE_READ], &waiters[i], cells[i] = waiting_cell(e));
    CHECK(trale_stop_waiting(e, &waiters[1]));
    trale_cell_unref(cells[1]);
    send_byte(fds[1]);
    look(e);
    take(e, cells[0]);
    take(e, cells[2]);
    take(e, NULL);
    for (int i = 0; i < 3; i++) {  /* and so they are when it is not watched any more */
        trale_wait_on(e, cells[i]);
        trale_add_waiter(e, &s->direction[i % 2], &waiters[i], cells[i]);
    }
    trale_wake_waiters(e, &s->direction[TRALE_WRITE]);
    take(e, cells[1]);
    trale_unwatch(e, s);
    take(e, cells[0]);
    take(e, cells[2]);
    for (int i = 0; i < 3; i++) {
        CHECK(cells[i]->refs == 1);
        trale_cell_unref(cells[i]);
    }
    close(fds[0]);
    close(fds[1]);
    closed(e);
}

static void test_the_end_of_a_pipe_concerns_both_directions(void)
{
    trale_engine *e = opened();
    int fds[2];
    CHECK(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0);
    trale_source *reading, *writing;
    CHECK(trale_watch(e, fds[0], &reading) == 0);
    look(e);
    block(&reading->direction[TRALE_READ]);
    close(fds[1]);
    look(e);  /* HUP and nothing else */
    CHECK(trale_ready(&reading->direction[TRALE_READ]));
    CHECK(atomic_load(&reading->direction[TRALE_READ].more));
    trale_unwatch(e, reading);
    close(fds[0]);

    CHECK(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0);
    CHECK(trale_watch(e, fds[1], &writing) == 0);
    look(e);
    block(&writing->direction[TRALE_WRITE]);
    close(fds[0]);
    look(e);  /* ERR */
    CHECK(trale_ready(&writing->direction[TRALE_WRITE]));
    CHECK(atomic_load(&writing->direction[TRALE_WRITE].more));
    trale_unwatch(e, writing);
    close(fds[1]);
    closed(e);
}

static void test_R5_an_event_that_was_fetched_does_not_reach_the_next_source(void)
{
    trale_engine *e = opened();
    int old[2], new[2];
    make_pair(old);
    make_pair(new);
    trale_source *s, *next;
    CHECK(trale_watch(e, old[0], &s) == 0);
    look(e);
    send_byte(old[1]);
    struct epoll_event event;
    CHECK(epoll_wait(e->epoll, &event, 1, 1000) == 1);  /* the other thread has it in its hands */
    trale_unwatch(e, s);
    CHECK(trale_watch(e, new[0], &next) == 0 && next == s);  /* the same slot */
    look(e);
    block(&next->direction[TRALE_READ]);
    TRALE_LOCK(&e->lock);
    sources_deliver(e, &event);
    TRALE_UNLOCK(&e->lock);
    trale_counts counts;
    trale_count(e, &counts);
    CHECK(!trale_ready(&next->direction[TRALE_READ]) && counts.stale == 1);
    trale_unwatch(e, next);
    for (int i = 0; i < 2; i++) {
        close(old[i]);
        close(new[i]);
    }
    closed(e);
}

static void test_B2_a_descriptor_closed_while_a_duplicate_lives(void)
{
    trale_engine *e = opened();
    int old[2], new[2];
    make_pair(old);
    make_pair(new);
    trale_source *s, *next;
    CHECK(trale_watch(e, old[0], &s) == 0);
    int duplicate = dup(old[0]);
    close(old[0]);
    trale_unwatch(e, s);  /* EBADF: epoll goes on reporting the file */
    CHECK(trale_watch(e, new[0], &next) == 0 && next == s);
    look(e);
    block(&next->direction[TRALE_READ]);
    trale_counts before, after;
    trale_count(e, &before);
    send_byte(old[1]);
    look(e);
    look(e);
    trale_count(e, &after);
    CHECK(after.stale == before.stale + 1);  /* once: it is edge-triggered, and does not spin */
    CHECK(!trale_ready(&next->direction[TRALE_READ]));
    trale_unwatch(e, next);
    close(duplicate);
    close(old[1]);
    close(new[0]);
    close(new[1]);
    closed(e);
}

static void test_a_slot_whose_generations_are_used_up_is_not_used_again(void)
{
    trale_engine *e = opened();
    int fds[2];
    make_pair(fds);
    trale_source *s, *next;
    CHECK(trale_watch(e, fds[0], &s) == 0);
    trale_unwatch(e, s);
    s->generation = UINT32_MAX - 2;
    CHECK(trale_watch(e, fds[0], &next) == 0 && next == s);
    trale_unwatch(e, s);
    CHECK(trale_watch(e, fds[0], &next) == 0 && next == s && s->generation == UINT32_MAX - 1);
    trale_unwatch(e, s);
    CHECK(trale_watch(e, fds[0], &next) == 0 && next != s);
    trale_unwatch(e, next);
    close(fds[0]);
    close(fds[1]);
    closed(e);
}

static void test_rearm_reports_anew_what_is_ready(void)
{
    trale_engine *e = opened();
    int fds[2];
    make_pair(fds);
    trale_source *s;
    CHECK(trale_watch(e, fds[0], &s) == 0);
    send_byte(fds[1]);
    look(e);
    trale_direction *d = &s->direction[TRALE_READ];
    block(d);
    look(e);
    CHECK(!trale_ready(d));  /* an edge comes once */
    CHECK(trale_rearm(e, s) == 0);
    look(e);
    CHECK(trale_ready(d));
    close(fds[0]);
    CHECK(trale_rearm(e, s) == -EBADF);
    trale_unwatch(e, s);
    close(fds[1]);
    closed(e);
}

static void test_descriptors_that_epoll_refuses(void)
{
    trale_engine *e = opened();
    trale_source *s;
    int file = memfd_create("a regular file", MFD_CLOEXEC);
    CHECK(file >= 0 && trale_watch(e, file, &s) == -EPERM);
    CHECK(trale_ready(&s->direction[TRALE_READ]) && trale_rearm(e, s) < 0);
    trale_unwatch(e, s);
    close(file);
    CHECK(trale_watch(e, file, &s) == -EBADF);
    trale_unwatch(e, s);
    CHECK(trale_watch(e, -1, &s) == -EBADF);
    trale_unwatch(e, s);

    int fds[2];  /* closed behind our back, and the same file under the same number again */
    make_pair(fds);
    CHECK(trale_watch(e, fds[0], &s) == 0);
    int duplicate = dup(fds[0]);
    close(fds[0]);
    trale_unwatch(e, s);
    CHECK(dup2(duplicate, fds[0]) == fds[0]);
    CHECK(trale_watch(e, fds[0], &s) == -EEXIST && trale_rearm(e, s) == 0);
    look(e);
    block(&s->direction[TRALE_READ]);
    send_byte(fds[1]);
    look(e);
    CHECK(trale_ready(&s->direction[TRALE_READ]));  /* under the new generation */
    trale_unwatch(e, s);
    close(duplicate);
    close(fds[0]);
    close(fds[1]);
    closed(e);
}

static void test_more_sources_than_a_piece_of_the_table_and_a_batch(void)
{
    enum { N = TRALE_CHUNK + 50 };
    static trale_source *sources[N];
    static int fds[N][2];
    trale_engine *e = opened();
    for (int i = 0; i < N; i++) {
        make_pair(fds[i]);
        CHECK(trale_watch(e, fds[i][0], &sources[i]) == 0 && sources[i]->slot == (uint32_t)i);
        send_byte(fds[i][1]);
    }
    look(e);
    look(e);
    for (int i = 0; i < N; i++)  /* 1 is what a new one begins with */
        CHECK(atomic_load(&sources[i]->direction[TRALE_READ].events) == 2);
    for (int i = 0; i < N; i++) {
        trale_unwatch(e, sources[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    closed(e);
}

/* ---- two threads ------------------------------------------------------------------------------ */

static void *reactor(void *e)
{
    CHECK(trale_run_reactor(e) == 0);
    return NULL;
}

static pthread_t start(void *(*run)(void *), void *e)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, e) == 0);
    return thread;
}

static void stop(trale_engine *e, pthread_t thread)
{
    trale_stop_reactor(e);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Park, take one cell, and stop. */
static void *take_one(void *engine)
{
    trale_engine *e = engine;
    while (trale_begin_batch(e) == 0)
        trale_park(e);
    return trale_take(e);
}

static void wait_for_park(trale_engine *e, uint64_t parks)
{
    trale_counts counts;
    do {
        sleep_ms(1);
        trale_count(e, &counts);
    } while (counts.parks < parks);
}

static void check_takes(pthread_t executor, trale_cell *cell)
{
    void *taken;
    CHECK(pthread_join(executor, &taken) == 0 && taken == cell);
    trale_cell_unref(cell);
}

static void test_a_parked_executor_is_woken_by_a_push_an_event_and_a_timer(void)
{
    trale_engine *e = opened();
    pthread_t thread = start(reactor, e);
    int fds[2];
    make_pair(fds);
    trale_source *s;
    trale_cell *cell = cell_of(NULL);
    CHECK(trale_watch(e, fds[0], &s) == 0);

    pthread_t executor = start(take_one, e);
    wait_for_park(e, 1);
    trale_push(e, cell);
    check_takes(executor, cell);

    trale_wait_on(e, cell);
    trale_waiter waiter = {0};
    trale_add_waiter(e, &s->direction[TRALE_READ], &waiter, cell);
    executor = start(take_one, e);
    wait_for_park(e, 2);
    send_byte(fds[1]);
    check_takes(executor, cell);

    trale_wait_on(e, cell);
    trale_timer timer = {0};
    int64_t deadline = trale_now() + 20 * MS;
    CHECK(trale_set_timer(e, &timer, deadline, cell) == 0);
    executor = start(take_one, e);
    check_takes(executor, cell);
    CHECK(trale_now() >= deadline);

    CHECK(cell->refs == 1);
    trale_cell_unref(cell);
    trale_unwatch(e, s);
    stop(e, thread);
    close(fds[0]);
    close(fds[1]);
    closed(e);
}

static void test_A17_a_stuck_executor_does_not_keep_the_reactor(void)
{
    trale_engine *e = opened();
    pthread_t thread = start(reactor, e);
    int fds[2];
    make_pair(fds);
    trale_source *s;
    CHECK(trale_watch(e, fds[0], &s) == 0);
    trale_cell *stuck = cell_of(NULL), *by_event = waiting_cell(e), *by_timer = waiting_cell(e);
    trale_push(e, stuck);
    CHECK(trale_begin_batch(e) == 1 && trale_take(e) == stuck);
    trale_cell_unref(stuck);
    block(&s->direction[TRALE_READ]);
    trale_waiter waiter = {0};
    CHECK(trale_wait_for(e, &s->direction[TRALE_READ], &waiter, by_event));
    trale_timer timer = {0};
    CHECK(trale_set_timer(e, &timer, trale_now() + 5 * MS, by_timer) == 0);
    send_byte(fds[1]);
    int64_t end = trale_now() + 10 * TRALE_NS;
    while (trale_queued(e) < 2)  /* the poll that never ends; under valgrind it has to give way */
        CHECK(trale_now() < end && sched_yield() == 0);
    trale_counts counts;
    trale_count(e, &counts);
    CHECK(counts.collected >= 2 && counts.parks == 0);
    CHECK(trale_begin_batch(e) == 2 && trale_take(e) == by_event && trale_take(e) == by_timer);
    for (int i = 0; i < 2; i++) {
        trale_cell_unref(by_event);
        trale_cell_unref(by_timer);
    }
    trale_cell_unref(stuck);
    trale_unwatch(e, s);
    stop(e, thread);
    close(fds[0]);
    close(fds[1]);
    closed(e);
}

static void test_when_nothing_happens_nobody_returns_from_epoll(void)
{
    trale_engine *e = opened();
    pthread_t thread = start(reactor, e), executor = start(take_one, e);
    wait_for_park(e, 1);
    sleep_ms(20);
    trale_counts before, after;
    trale_count(e, &before);
    sleep_ms(200);
    trale_count(e, &after);
    CHECK(after.epoll_returns == before.epoll_returns && after.parks == before.parks);
    trale_cell *cell = cell_of(NULL);
    trale_push(e, cell);
    check_takes(executor, cell);
    trale_cell_unref(cell);
    stop(e, thread);
    closed(e);
}

static void test_the_reactor_stops_wherever_it_is(void)
{
    trale_engine *e = opened();
    trale_stop_reactor(e);
    CHECK(trale_run_reactor(e) == 0);  /* before it has begun */
    closed(e);
    for (int ms = 0; ms < 6; ms++) {  /* while it waits for its duty, and in epoll */
        e = opened();
        pthread_t thread = start(reactor, e);
        sleep_ms(ms);
        stop(e, thread);
        closed(e);
    }
    e = trale_new();
    CHECK(e != NULL && trale_run_reactor(e) == -EBADF);  /* nothing is open */
    trale_free(e);
}

/* ---- fork ---------------------------------------------------------------------------------------- */

static void use_everything(trale_engine *e, trale_source *s, trale_cell *cell)
{
    trale_waiter waiter = {0};
    trale_timer timer = {0};
    trale_source *other;
    trale_counts counts;
    trale_push(e, cell);
    trale_wake(e, cell);
    trale_wait_on(e, cell);
    trale_end(e, cell);
    CHECK(trale_begin_batch(e) == 0 && trale_take(e) == NULL && trale_drain(e) == NULL);
    trale_park(e);
    CHECK(trale_watch(e, 0, &other) == -EBADF && trale_rearm(e, s) < 0);
    trale_add_waiter(e, &s->direction[0], &waiter, cell);
    trale_wait_for(e, &s->direction[0], &waiter, cell);
    trale_wake_waiters(e, &s->direction[0]);
    CHECK(!trale_stop_waiting(e, &waiter));
    CHECK(trale_set_timer(e, &timer, 1, cell) == 0 && !trale_clear_timer(e, &timer));
    CHECK(trale_timers(e) == 0 && !trale_is_set(e, &timer) && !trale_is_waiting(e, cell));
    trale_unwatch(e, s);
    trale_stop_reactor(e);
    trale_count(e, &counts);
    trale_close(e);
}

static void test_a_forked_child_does_not_wait_for_a_lock_nobody_gives_back(void)
{
    trale_engine *e = opened();
    int fds[2];
    make_pair(fds);
    trale_source *s;
    CHECK(trale_watch(e, fds[0], &s) == 0);
    trale_cell *cell = cell_of(NULL);
    TRALE_LOCK(&e->lock);  /* as another thread would at that moment */
    pid_t child = fork();
    if (child == 0) {
        DEADLINE(10);
        trale_stay_behind(e);
        use_everything(e, s, cell);
        trale_cell_unref(cell);
        trale_free(e);
        _exit(0);
    }
    TRALE_UNLOCK(&e->lock);
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    send_byte(fds[1]);  /* the parent's goes on as if nothing had been */
    block(&s->direction[TRALE_READ]);
    look(e);
    CHECK(trale_ready(&s->direction[TRALE_READ]));
    trale_unwatch(e, s);
    trale_cell_unref(cell);
    close(fds[0]);
    close(fds[1]);
    closed(e);
}

/* ---- no memory ------------------------------------------------------------------------------------- */

/* All that allocates, a little of each, and enough of some to grow what holds it. Whatever fails is
 * passed over; what it was for is not there, and all the rest has to be as it should. */
static void scenario(void)
{
    enum { SOURCES = TRALE_CHUNK + 1, TIMERS = 200 };
    static trale_source *sources[SOURCES];
    static trale_timer timers[TIMERS];
    static bool watched[SOURCES];
    trale_engine *e = trale_new();
    if (e == NULL)
        return;
    CHECK(trale_open(e) == 0);
    trale_cell *cell = trale_cell_new(NULL, 0);
    if (cell != NULL) {
        trale_push(e, cell);
        take(e, cell);
        trale_wait_on(e, cell);
    }
    for (int i = 0; i < SOURCES; i++) {  /* an eventfd each would do, but this is a number less */
        int error = trale_watch(e, -1, &sources[i]);
        CHECK(error == -EBADF || error == -ENOMEM);
        watched[i] = error == -EBADF;
    }
    trale_cell *sleeper = cell;
    size_t set = 0;
    memset(timers, 0, sizeof timers);
    for (int i = 0; i < TIMERS && sleeper != NULL; i++) {
        int error = trale_set_timer(e, &timers[i], TRALE_NS + i, sleeper);
        CHECK(error == 0 || (error == -ENOMEM && timers[i].place == 0));
        set += error == 0;
    }
    CHECK(trale_timers(e) == set);
    for (int i = 0; i < TIMERS; i++) {
        if (i % 2 && sleeper != NULL && trale_clear_timer(e, &timers[i])) {
            trale_cell_unref(sleeper);
            set--;
        }
    }
    if (set > 0) {  /* their time is long past */
        CHECK(trale_begin_batch(e) == 1 && trale_timers(e) == 0);
        take(e, cell);
    }
    for (int i = 0; i < SOURCES; i++)
        if (watched[i])
            trale_unwatch(e, sources[i]);
    if (cell != NULL) {
        CHECK(cell->refs == 1);
        trale_cell_unref(cell);
    }
    closed(e);
}

static void test_L2_each_allocation_may_fail(void)
{
    long n = 0;
    do {
        heap_fail(++n);
        scenario();
        CHECK(heap_blocks() == 0);
    } while (heap_failed());
    heap_fail(0);
    CHECK(n > 8);  /* the engine, a cell, two of each for the sources, three for the timers */
}

static void test_L1_open_fails_and_leaves_no_descriptor(void)
{
    trale_engine *e = trale_new();
    struct rlimit before, limit;
    int first = dup(0);  /* from here on the numbers are free */
    CHECK(e != NULL && first >= 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    close(first);
    for (int room = 0; room < 3; room++) {
        limit = before;
        limit.rlim_cur = (rlim_t)(first + room);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK(trale_open(e) == -EMFILE);
        CHECK(e->epoll < 0 && e->bell < 0 && e->alarm < 0 && fcntl(first, F_GETFD) < 0);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    }
    CHECK(trale_open(e) == 0);
    closed(e);
}

/* ---- all of them -------------------------------------------------------------------------------- */

#define TEST(name) {#name, test_##name}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    TEST(cells_come_out_in_the_order_they_went_in),
    TEST(what_comes_during_a_batch_is_of_the_next),
    TEST(only_a_waiting_cell_is_queued_by_a_wake),
    TEST(R43_a_cell_has_one_place_in_the_queue),
    TEST(R2_a_wake_during_the_poll_queues_it_once_more),
    TEST(a_cell_that_ends_in_the_queue_still_comes_out),
    TEST(the_heap_sorts_with_ties_and_removals),
    TEST(timers_fire_in_order_and_not_early),
    TEST(deadlines_at_the_ends_of_time),
    TEST(more_timers_than_a_batch),
    TEST(a_direction_is_ready_until_it_blocks_and_after_each_event),
    TEST(all_waiters_are_woken_in_order),
    TEST(the_end_of_a_pipe_concerns_both_directions),
    TEST(R5_an_event_that_was_fetched_does_not_reach_the_next_source),
    TEST(B2_a_descriptor_closed_while_a_duplicate_lives),
    TEST(a_slot_whose_generations_are_used_up_is_not_used_again),
    TEST(rearm_reports_anew_what_is_ready),
    TEST(descriptors_that_epoll_refuses),
    TEST(more_sources_than_a_piece_of_the_table_and_a_batch),
    TEST(a_parked_executor_is_woken_by_a_push_an_event_and_a_timer),
    TEST(A17_a_stuck_executor_does_not_keep_the_reactor),
    TEST(when_nothing_happens_nobody_returns_from_epoll),
    TEST(the_reactor_stops_wherever_it_is),
    TEST(a_forked_child_does_not_wait_for_a_lock_nobody_gives_back),
    TEST(L2_each_allocation_may_fail),
    TEST(L1_open_fails_and_leaves_no_descriptor),
    {"many_threads_at_once", stress},
};

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* harness [part of a name]... */
int main(int argc, char **argv)
{
    int run = 0;
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        bool wanted = argc == 1;
        for (int a = 1; a < argc; a++)
            wanted = wanted || strstr(tests[i].name, argv[a]) != NULL;
        if (!wanted)
            continue;
        DEADLINE(60);
        int fds = open_descriptors();
        int64_t began = trale_now();
        tests[i].run();
        CHECK(heap_blocks() == 0 && open_descriptors() == fds);
        int64_t ms = (trale_now() - began) / MS;
        if (ms > 500)
            printf("    %s: %lld ms\n", tests[i].name, (long long)ms);
        run++;
    }
    printf("%d tests passed\n", run);
    return run == 0;
}
