/* The queue of cells. */

#include "harness.h"

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

const struct test queue_tests[] = {
    TEST(cells_come_out_in_the_order_they_went_in),
    TEST(what_comes_during_a_batch_is_of_the_next),
    TEST(only_a_waiting_cell_is_queued_by_a_wake),
    TEST(R43_a_cell_has_one_place_in_the_queue),
    TEST(R2_a_wake_during_the_poll_queues_it_once_more),
    TEST(a_cell_that_ends_in_the_queue_still_comes_out),
    {NULL, NULL},
};
