/* Timers and their heap. */

#include "harness.h"

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
        trale_park(e);  /* the timerfd is set for it, and expires */
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

const struct test timers_tests[] = {
    TEST(the_heap_sorts_with_ties_and_removals),
    TEST(timers_fire_in_order_and_not_early),
    TEST(deadlines_at_the_ends_of_time),
    TEST(more_timers_than_a_batch),
    {NULL, NULL},
};
