/* What the explorer puts in the place of the system: fibres for threads, and a lock, condition
 * variables, clock, timerfd and epoll of its own. Included once, and with it the engine. */
#ifndef TRALE_SIMULATED_H
#define TRALE_SIMULATED_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

/* ---- what stands in the place of sync.h ---------------------------------------------------- */

#define TRALE_SYNC_H
#define TRALE_NS 1000000000LL
#define MS (TRALE_NS / 1000)

static void sim_lock(void *lock);
static void sim_unlock(void *lock);
static void sim_wait(void *condition, void *lock, int64_t until);
static void sim_signal(void *condition);
static int sim_epoll_wait(struct epoll_event *events, int ms);
static void sim_notify(void);
static int sim_epoll_ctl(int operation, const struct epoll_event *event);
static void sim_set_timer_fd(int64_t ns);
static int64_t sim_clock(void);

static inline struct timespec trale_timespec(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / TRALE_NS, .tv_nsec = ns % TRALE_NS};
}

#define TRALE_LOCK(lock) sim_lock(lock)
#define TRALE_UNLOCK(lock) sim_unlock(lock)
#define TRALE_WAIT(condition, lock) sim_wait(condition, lock, INT64_MAX)
#define TRALE_WAIT_UNTIL(condition, lock, ns) sim_wait(condition, lock, ns)
#define TRALE_SIGNAL(condition) sim_signal(condition)
#define TRALE_EPOLL_WAIT(fd, events, n, ms) sim_epoll_wait(events, ms)
#define TRALE_EPOLL_WAIT_NS(fd, events, n, ns) sim_epoll_wait(events, (int)((ns) / MS) + 1)
#define TRALE_CLOCK() sim_clock()
#define TRALE_NOTIFY(fd) (sim_notify(), 0)
#define TRALE_LATE_NS INT64_MAX

#define epoll_create1(flags) 100
#define eventfd(value, flags) 101
#define timerfd_create(clock, flags) 102
#define epoll_ctl(epoll, operation, fd, event) \
    ((void)(epoll), (void)(fd), sim_epoll_ctl(operation, event))
#define timerfd_settime(fd, flags, when, before) \
    (sim_set_timer_fd((when)->it_value.tv_sec * TRALE_NS + (when)->it_value.tv_nsec), 0)
#define close(fd) ((void)(fd))

#include "engine_whole.h"

/* ---- fibres ------------------------------------------------------------------------------------ */

#ifndef BOUND
#define BOUND 2
#endif

enum { FIBRES = 4, STACK = 65536, STEPS = 4000, CHOICES = STEPS };

typedef struct fibre {
    ucontext_t context;
    const char *name;
    void (*run)(void);
    bool ended;
    void *wants;      /* the lock it waits for */
    void *condition;  /* that it waits for */
    bool in_epoll;
    int64_t until;    /* when either ends by itself */
    bool timed_out;
} fibre;

static fibre fibres[FIBRES];
static int fibre_count, current;
static ucontext_t controller;
static char stacks[FIBRES][STACK];

static unsigned char choices[CHOICES], options[CHOICES];  /* taken, and how many there were */
static int choice_count, replayed;
static int preemptions, bound = BOUND;
static bool running;  /* a fibre is */
static bool tracing;
static const char *fault;  /* what this run has shown */

static void *owner_of_lock, *lock_held;  /* there is one lock */
static int64_t now;
static bool wakeup_fd_set, timer_fd_expired, data_comes;
static int64_t alarm_at;
static uint64_t watched;  /* what the one descriptor carries in epoll; 0: it is not there */

static bool has_events(void)
{
    return wakeup_fd_set || timer_fd_expired || (data_comes && watched != 0);
}

static bool can_run(const fibre *f)
{
    if (f->ended)
        return false;
    if (f->condition != NULL)
        return false;
    if (f->in_epoll)
        return has_events();
    return f->wants == NULL || lock_held == NULL;
}

static bool can_time_out(const fibre *f)
{
    return !f->ended && (f->condition != NULL || (f->in_epoll && !has_events()))
        && f->until != INT64_MAX;
}

static int choose(int alternatives)
{
    int choice = 0;
    CHECK(choice_count < CHOICES);
    if (choice_count < replayed)
        choice = choices[choice_count];
    CHECK(choice < alternatives);
    choices[choice_count] = (unsigned char)choice;
    options[choice_count++] = (unsigned char)alternatives;
    return choice;
}

static void step(const char *what)
{
    if (!running)
        return;
    if (tracing)
        printf("    %-9s %s\n", fibres[current].name, what);
    swapcontext(&fibres[current].context, &controller);
}

/* ---- what the engine calls ----------------------------------------------------------------------- */

static void take_lock(void *lock)
{
    fibres[current].wants = lock;
    while (lock_held != NULL)
        step("waits for the lock");
    fibres[current].wants = NULL;
    lock_held = lock;
    owner_of_lock = &fibres[current];
}

static void sim_lock(void *lock)
{
    step("lock");
    take_lock(lock);
}

static void sim_unlock(void *lock)
{
    CHECK(lock_held == lock && owner_of_lock == &fibres[current]);
    lock_held = NULL;
    step("unlock");
}

static void sim_wait(void *condition, void *lock, int64_t until)
{
    fibre *self = &fibres[current];
    CHECK(lock_held == lock && owner_of_lock == self);
    lock_held = NULL;
#ifdef PLANT_WAIT_IN_TWO_STEPS  /* unlock, then sleep: a signal between the two is lost */
    step("unlocks to wait");
#endif
    self->condition = condition;
    self->until = until;
    step("waits for a signal");
    self->condition = NULL;
    take_lock(lock);
}

static void sim_signal(void *condition)
{
    (void)condition;
#ifndef PLANT_NO_SIGNAL
    step("signal");
    for (fibre *f = fibres; f < fibres + fibre_count; f++)
        if (f->condition == condition)
            f->condition = NULL;
#endif
}

static void sim_notify(void)
{
#ifndef PLANT_NO_NOTIFY
    step("notify");
    wakeup_fd_set = true;
#endif
}

static int sim_epoll_ctl(int operation, const struct epoll_event *event)
{
    if (event->data.u64 > TRALE_TIMER_FD) {
        step("epoll_ctl");
        watched = operation == EPOLL_CTL_DEL ? 0 : event->data.u64;
    }
    return 0;
}

static void sim_set_timer_fd(int64_t ns)
{
    alarm_at = ns;
    timer_fd_expired = ns <= now;
}

static int64_t sim_clock(void)
{
    return now;
}

static int sim_epoll_wait(struct epoll_event *events, int ms)
{
    fibre *self = &fibres[current];
    self->in_epoll = ms != 0;
    self->until = ms < 0 ? INT64_MAX : now + ms * MS;
    step(ms == 0 ? "looks into epoll" : "epoll_wait");
    self->in_epoll = false;
    int n = 0;
    if (wakeup_fd_set)
        events[n++] = (struct epoll_event){.events = EPOLLIN, .data.u64 = TRALE_WAKEUP_FD};
    if (timer_fd_expired)
        events[n++] = (struct epoll_event){.events = EPOLLIN, .data.u64 = TRALE_TIMER_FD};
    if (data_comes && watched != 0) {
        events[n++] = (struct epoll_event){.events = EPOLLIN, .data.u64 = watched};
        data_comes = false;
    }
    wakeup_fd_set = timer_fd_expired = false;
    step("has returned from epoll");  /* with the events in its hands, before it takes the lock */
    return n;
}

/* ---- the controller ----------------------------------------------------------------------------- */

static void advance(int64_t to)
{
    if (to > now)
        now = to;
    if (alarm_at <= now) {
        timer_fd_expired = true;
        alarm_at = INT64_MAX;
    }
}

static void time_out(fibre *f)
{
    advance(f->until);
    f->condition = NULL;
    f->in_epoll = false;
    f->until = INT64_MAX;
}

/* The clock goes to whatever ends next by itself. False: nothing does. */
static bool let_time_pass(void)
{
    fibre *first = NULL;
    for (fibre *f = fibres; f < fibres + fibre_count; f++)
        if (can_time_out(f) && (first == NULL || f->until < first->until))
            first = f;
    if (alarm_at != INT64_MAX && (first == NULL || alarm_at <= first->until))
        advance(alarm_at);
    else if (first != NULL)
        time_out(first);
    else
        return false;
    return true;
}

/* Who goes on. -1: nobody can. */
static int next_fibre(void)
{
    int candidates[2 * FIBRES], count = 0;
    bool goes_on = can_run(&fibres[current]);
    if (goes_on)
        candidates[count++] = current;
    if (!goes_on || preemptions < bound)
        for (int i = 0; i < fibre_count; i++)
            if (i != current && can_run(&fibres[i]))
                candidates[count++] = i;
    if (count == 0)
        return -1;
    int enabled = count;
    if (preemptions < bound)  /* somebody's time may be over although others could go on */
        for (int i = 0; i < fibre_count; i++)
            if (can_time_out(&fibres[i]))
                candidates[count++] = i;
    int choice = count == 1 ? 0 : choose(count);
    preemptions += (goes_on && choice > 0) || choice >= enabled;
    if (choice >= enabled)
        time_out(&fibres[candidates[choice]]);
    return candidates[choice];
}

static void begin_fibre(void)
{
    fibres[current].run();
    fibres[current].ended = true;
    swapcontext(&fibres[current].context, &controller);
}

static void add_fibre(const char *name, void (*run)(void))
{
    fibre *f = &fibres[fibre_count];
    *f = (fibre){.name = name, .run = run, .until = INT64_MAX};
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stacks[fibre_count++];
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, begin_fibre, 0);
}

static void run_fibres(void)
{
    for (int i = 0, steps = 0; fault == NULL; steps++) {
        bool ended = true;
        for (int f = 0; f < fibre_count; f++)
            ended = ended && fibres[f].ended;
        if (ended)
            return;
        if (steps > STEPS) {
            fault = "it goes on for ever";
            return;
        }
        while ((i = next_fibre()) < 0)
            if (!let_time_pass()) {
                fault = "nobody can go on";
                return;
            }
        current = i;
        running = true;
        swapcontext(&controller, &fibres[i].context);
        running = false;
    }
}

#endif
