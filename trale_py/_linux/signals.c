/* Signals for tasks: a handler that marks a receiver and writes to its eventfd. See signal-safety(7).
 *
 * The handler runs on whatever thread the kernel chooses, between any two instructions. It touches
 * only atomics, `previous` and an eventfd. Two rules keep these valid while it runs:
 *   - open and close hold `changing`; the handler takes no lock.
 *   - The handler counts itself in `running`. Code that took something out of its sight waits until it
 *     is 0 before that is used for anything else (R50: a descriptor that is closed and its number
 *     given to another file, between the handler's look at it and its write).
 */
#define _GNU_SOURCE 1 /* SA_ONSTACK */

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "declarations.h"

enum { SIGNALS = 65 };  /* the numbers 1 to 64 */

typedef unsigned long long signal_set;  /* a bit for each */

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "for the handler");

static struct receiver {
    _Atomic signal_set wanted;   /* 0: the place is free */
    _Atomic signal_set pending;  /* what has come and was not taken yet */
    int eventfd;
    bool chain;
    int generation;            /* of the receiver in this slot; ids are never used twice */
} receivers[TRALE_RECEIVERS];

static struct sigaction previous[SIGNALS];  /* as of before the first receiver of that signal */
static int users[SIGNALS];                  /* how many receivers it has */
static atomic_int alone[SIGNALS];           /* how many of them keep it from `previous` */
static atomic_int running;
static atomic_int owner;                    /* the process that opened them; a fork's child did not */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

static signal_set bit(int signum)
{
    return (signal_set)1 << (signum - 1);
}

static void call_previous(const struct sigaction *action, int signum, siginfo_t *info, void *context)
{
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(signum, info, context);
    else if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN)
        action->sa_handler(signum);
}

static void handler(int signum, siginfo_t *info, void *context)
{
    int saved = errno;
    running++;
    struct sigaction before = previous[signum];
    bool ours = owner == getpid();
    bool pass_on = !ours || alone[signum] == 0;
    if (ours)
        for (struct receiver *one = receivers; one < receivers + TRALE_RECEIVERS; one++)
            if (one->wanted & bit(signum)) {
                one->pending |= bit(signum);
                const unsigned long long increment = 1;
                /* EAGAIN: the counter is full, so the descriptor is readable already. */
                ssize_t ignored = write(one->eventfd, &increment, sizeof increment);
                (void)ignored;
            }
    running--;
    if (!ours && !(before.sa_flags & SA_SIGINFO) && before.sa_handler == SIG_DFL) {
        /* A fork's child that has not come to trale_signals_forget. */
        sigaction(signum, &before, NULL);
        raise(signum);  /* blocked until the handler returns */
    } else if (pass_on) {
        call_previous(&before, signum, info, context);
    }
    errno = saved;
}

static void wait_for_handlers(void)
{
    while (running)
        sched_yield();
}

static bool is_installed(int signum)
{
    struct sigaction now;
    return sigaction(signum, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO)
           && now.sa_sigaction == handler;
}

/* Also if there are receivers, but the program has set a handler since. */
static int install(int signum)
{
    if (users[signum] > 0 && is_installed(signum))
        return 0;
    /* No SA_RESTART: Python hears of a signal by the EINTR of the call that it interrupts. */
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    struct sigaction before;
    if (sigaction(signum, NULL, &before) < 0)
        return -errno;
    wait_for_handlers();
    previous[signum] = before;  /* first: the handler may run at once */
    return sigaction(signum, &action, NULL) < 0 ? -errno : 0;
}

/* False: the program has set another handler, which stays. */
static bool uninstall(int signum)
{
    if (!is_installed(signum))
        return false;
    sigaction(signum, &previous[signum], NULL);
    return true;
}

/* Take a receiver out of the handler's sight. The signals whose handler is not ours any more. */
static signal_set leave(struct receiver *self)
{
    signal_set wanted = self->wanted, replaced = 0;
    /* In this order: a signal that comes meanwhile may reach both this and `previous`, but not
     * neither. */
    for (int signum = 1; signum < SIGNALS; signum++)
        if ((wanted & bit(signum)) && !self->chain)
            alone[signum]--;
    self->wanted = 0;
    for (int signum = 1; signum < SIGNALS; signum++)
        if ((wanted & bit(signum)) && --users[signum] == 0 && !uninstall(signum))
            replaced |= bit(signum);
    wait_for_handlers();
    self->pending = 0;
    self->generation = (self->generation + 1) % (INT_MAX / TRALE_RECEIVERS);
    return replaced;
}

/* NULL: it was closed. */
static struct receiver *find(int id)
{
    struct receiver *self = &receivers[id % TRALE_RECEIVERS];
    return self->wanted != 0 && self->generation == id / TRALE_RECEIVERS ? self : NULL;
}

int trale_signals_open(int eventfd, unsigned long long wanted, int chain)
{
    int result = -EMFILE;
    pthread_mutex_lock(&changing);
    owner = getpid();
    for (int place = 0; place < TRALE_RECEIVERS; place++) {
        struct receiver *self = &receivers[place];
        if (self->wanted != 0)
            continue;
        self->eventfd = eventfd;
        self->chain = chain;
        result = self->generation * TRALE_RECEIVERS + place;
        for (int signum = 1; signum < SIGNALS && result >= 0; signum++) {
            if (!(wanted & bit(signum)))
                continue;
            int error = install(signum);
            if (error < 0) {
                leave(self);
                result = error;
                break;
            }
            users[signum]++;
            self->wanted |= bit(signum);  /* before it is alone: see leave() */
            if (!chain)
                alone[signum]++;
        }
        break;
    }
    pthread_mutex_unlock(&changing);
    return result;
}

unsigned long long trale_signals_take(int receiver)
{
    signal_set come = 0;
    pthread_mutex_lock(&changing);
    struct receiver *self = find(receiver);
    if (self != NULL) {
        unsigned long long ignored;
        /* First: what comes between the two makes it readable once more. */
        ssize_t length = read(self->eventfd, &ignored, sizeof ignored);
        (void)length;
        come = atomic_exchange(&self->pending, 0);
    }
    pthread_mutex_unlock(&changing);
    return come;
}

unsigned long long trale_signals_close(int receiver)
{
    pthread_mutex_lock(&changing);
    struct receiver *self = find(receiver);
    signal_set replaced = self == NULL ? 0 : leave(self);
    pthread_mutex_unlock(&changing);
    return replaced;
}

void trale_signals_forget(void)
{
    /* Another thread of the parent may have held the lock, or run the handler. */
    pthread_mutex_init(&changing, NULL);
    running = 0;
    for (int place = 0; place < TRALE_RECEIVERS; place++)
        if (receivers[place].wanted != 0)
            leave(&receivers[place]);
}
