/* No memory, and no descriptor. */

#include "harness.h"

#include <string.h>
#include <sys/resource.h>

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
        CHECK(e->epoll < 0 && e->wakeup_fd < 0 && e->timer_fd < 0 && fcntl(first, F_GETFD) < 0);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    }
    CHECK(trale_open(e) == 0);
    closed(e);
}

const struct test memory_tests[] = {
    TEST(L2_each_allocation_may_fail),
    TEST(L1_open_fails_and_leaves_no_descriptor),
    {NULL, NULL},
};
