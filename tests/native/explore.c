/* Tries every order in which the engine's threads can meet, up to a number of preemptions.
 *
 * The engine is compiled with other locks, condition variables, clock and epoll than the system's:
 * its threads are fibres, of which one runs at a time, and each such call is a place where another
 * one may go on. A run follows a list of choices; the next run changes the last choice that has an
 * alternative, until there is none: depth first. A switch from a fibre that could have gone on costs
 * a preemption, of which there are none at first, then one in each run, and so on up to BOUND. Waits
 * with a timeout end when nobody else can run; then the clock jumps. At the price of a preemption
 * they end at once, too.
 *
 * What shows a fault: nobody can run although somebody has not ended (a wake was lost), or the
 * accounts at the end are wrong. The run's choices are printed, and "explore SCENARIO CHOICES"
 * repeats it with a trace.
 *
 * That it finds faults is shown by planting some, see "mutants": the macros PLANT_... change what is
 * below and in simulated.h, and "mutants" compiles changed copies of the engine.
 */

#include "simulated.h"

/* ---- scenarios ------------------------------------------------------------------------------------ */

/* The task: it has something to do as often as somebody said so before a wake. */
static trale_engine *engine;
static trale_cell *cell, *pushed;
static trale_source *source;
static trale_waiter waiter;
static trale_timer timers[2];
static int64_t deadlines[2];  /* 0: there is no such timer */
static int said, done, wanted;
static bool push_was_taken, event_came, fired_early;

static void poll_task(void)
{
#ifndef PLANT_WAIT_AFTER_POLL
    trale_wait_on(engine, cell);
#endif
    step("polls");
    done = said;
    for (int i = 0; i < 2; i++)
        if (timers[i].cell != NULL && timers[i].place == 0)
            fired_early = fired_early || now < deadlines[i];
    if (source != NULL && !trale_wait_for(engine, &source->direction[TRALE_READ], &waiter, cell))
        event_came = true;
    step("has polled");
#ifdef PLANT_WAIT_AFTER_POLL  /* R2: a wake during the poll finds nobody waiting */
    trale_wait_on(engine, cell);
#endif
}

static bool finished(void)
{
    return done == wanted && push_was_taken && (source == NULL || event_came)
        && timers[0].place == 0 && timers[1].place == 0;
}

static void executor(void)
{
    for (int i = 0; i < 2; i++)
        if (deadlines[i] > 0)
            CHECK(trale_set_timer(engine, &timers[i], deadlines[i], cell) == 0);
    poll_task();
    while (!finished()) {
        while (trale_begin_batch(engine) == 0)
            trale_park(engine);
        for (trale_cell *c; (c = trale_take(engine)) != NULL; trale_cell_unref(c)) {
            if (c == cell)
                poll_task();
            else
                push_was_taken = true;
        }
    }
    trale_stop_reactor(engine);
}

static void reactor(void)
{
    CHECK(trale_run_reactor(engine) == 0);
}

static void waker(void)
{
    said++;
    trale_wake(engine, cell);
}

static void pusher(void)
{
    trale_push(engine, pushed);
}

static void peer(void)
{
    step("writes");
    data_comes = true;
}

static void two_wakers(void)
{
    wanted = 2;
    add_fibre("waker 1", waker);
    add_fibre("waker 2", waker);
}

static void waker_and_push(void)
{
    wanted = 1;
    push_was_taken = false;
    add_fibre("waker", waker);
    add_fibre("pusher", pusher);
}

static void watch(void)
{
    CHECK(trale_watch(engine, 3, &source) == 0);
    source->direction[TRALE_READ].seen = 1;  /* the first try has said "would block" */
}

static void waker_and_event(void)
{
    wanted = 1;
    watch();
    add_fibre("waker", waker);
    add_fibre("peer", peer);
}

static void waker_and_timer(void)
{
    wanted = 1;
    deadlines[0] = now + 5 * MS;
    add_fibre("waker", waker);
}

static void event_and_timer(void)
{
    watch();
    deadlines[0] = now + MS / 2;  /* so soon that the executor waits for it in epoll */
    add_fibre("peer", peer);
}

static void two_timers(void)
{
    deadlines[0] = now + MS / 2;
    deadlines[1] = now + 20 * MS;
}

static const struct {
    const char *name;
    void (*prepare)(void);
} scenarios[] = {
    {"two_wakers", two_wakers},
    {"waker_and_push", waker_and_push},
    {"waker_and_event", waker_and_event},
    {"waker_and_timer", waker_and_timer},
    {"event_and_timer", event_and_timer},
    {"two_timers", two_timers},
};

static void clean_up(void)
{
    while ((pushed->refs > 1 || cell->refs > 1) && fault == NULL) {
        trale_cell *c = NULL;
        if (engine->head != NULL) {
            c = engine->head;
            engine->head = c->next;
            trale_cell_unref(c);
        } else if (waiter.next != NULL) {
            waiter = (trale_waiter){0};
            trale_cell_unref(cell);
        } else {
            fault = "a reference was left";
        }
    }
    free(pushed);
    free(cell);
    engine->left_behind = true;  /* there is nothing of pthread's to destroy */
    trale_free(engine);
}

static void run(int scenario)
{
    choice_count = preemptions = fibre_count = current = 0;
    lock_held = owner_of_lock = NULL;
    now = 1000 * TRALE_NS;
    alarm_at = INT64_MAX;
    wakeup_fd_set = timer_fd_expired = data_comes = false;
    watched = 0;
    fault = NULL;
    said = done = wanted = 0;
    push_was_taken = true;
    event_came = fired_early = false;
    memset(deadlines, 0, sizeof deadlines);
    memset(timers, 0, sizeof timers);
    source = NULL;
    waiter = (trale_waiter){0};

    engine = trale_new();
    cell = trale_cell_new(NULL, 0);
    pushed = trale_cell_new(NULL, 0);
    CHECK(engine != NULL && cell != NULL && pushed != NULL && trale_open(engine) == 0);
    add_fibre("executor", executor);
    add_fibre("reactor", reactor);
    scenarios[scenario].prepare();
    run_fibres();
    if (fault == NULL && fired_early)
        fault = "a timer fired too early";
    clean_up();
}

/* Change the last choice that has an alternative. False: there is none. */
static bool next_run(void)
{
    while (choice_count > 0 && choices[choice_count - 1] + 1 == options[choice_count - 1])
        choice_count--;
    if (choice_count == 0)
        return false;
    choices[choice_count - 1]++;
    replayed = choice_count;
    return true;
}

/* A fault: print how it came about. */
static int tell(int scenario, long runs)
{
    printf("%s: %s, in run %ld: %d ", scenarios[scenario].name, fault, runs, scenario);
    for (int i = 0; i < choice_count && i < 200; i++)
        putchar('a' + choices[i]);
    putchar('\n');
    return 1;
}

int main(int argc, char **argv)
{
    DEADLINE(300);
    if (argc == 3) {
        int scenario = atoi(argv[1]);
        tracing = true;
        for (const char *c = argv[2]; *c != '\0'; c++)
            choices[replayed++] = (unsigned char)(*c - 'a');
        run(scenario);
        return fault == NULL ? 0 : tell(scenario, 1);
    }
    long runs = 0;
    for (bound = 0; bound <= BOUND; bound++) {  /* what is easy to find is found soon */
        for (int s = 0; s < (int)(sizeof scenarios / sizeof *scenarios); s++) {
            replayed = 0;
            do {
                runs++;
                run(s);
                if (fault != NULL)
                    return tell(s, runs);
            } while (next_run());
        }
    }
    printf("explored %ld runs with up to %d preemptions\n", runs, BOUND);
    return 0;
}
