/* Two threads, and a forked child, which has one. */

#include "harness.h"

#include <sched.h>
#include <sys/wait.h>

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
        trale_after_fork_in_child(e);
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

const struct test threads_tests[] = {
    TEST(a_parked_executor_is_woken_by_a_push_an_event_and_a_timer),
    TEST(A17_a_stuck_executor_does_not_keep_the_reactor),
    TEST(when_nothing_happens_nobody_returns_from_epoll),
    TEST(the_reactor_stops_wherever_it_is),
    TEST(a_forked_child_does_not_wait_for_a_lock_nobody_gives_back),
    {NULL, NULL},
};
