/* Sources: who waits for which descriptor. */

#include "harness.h"

#include <sys/mman.h>

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
    trale_collect(e, &event, 1, 0);
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

static void test_R56_a_number_that_means_another_file_is_not_watched(void)
{
    trale_engine *e = opened();
    int pair[2], other[2];
    make_pair(pair);
    make_pair(other);
    trale_source *s;
    CHECK(trale_watch(e, pair[0], &s) == 0);
    look(e);
    CHECK(trale_watches(e, s));
    struct epoll_event event;
    CHECK(epoll_wait(e->epoll, &event, 1, 0) == 0);  /* nothing was reported anew */
    CHECK(dup2(other[0], pair[0]) == pair[0]);
    CHECK(!trale_watches(e, s));
    CHECK(epoll_ctl(e->epoll, EPOLL_CTL_DEL, pair[0], NULL) < 0 && errno == ENOENT);
    close(pair[0]);
    CHECK(!trale_watches(e, s) && trale_broken(e) == 0);
    trale_unwatch(e, s);
    close(pair[1]);
    close(other[0]);
    close(other[1]);
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

const struct test sources_tests[] = {
    TEST(a_direction_is_ready_until_it_blocks_and_after_each_event),
    TEST(all_waiters_are_woken_in_order),
    TEST(the_end_of_a_pipe_concerns_both_directions),
    TEST(R5_an_event_that_was_fetched_does_not_reach_the_next_source),
    TEST(B2_a_descriptor_closed_while_a_duplicate_lives),
    TEST(R56_a_number_that_means_another_file_is_not_watched),
    TEST(a_slot_whose_generations_are_used_up_is_not_used_again),
    TEST(rearm_reports_anew_what_is_ready),
    TEST(descriptors_that_epoll_refuses),
    TEST(more_sources_than_a_piece_of_the_table_and_a_batch),
    {NULL, NULL},
};
