/* WaitersCore: permits or values that are there, or else the waiters for them, in order. What
 * SemaphoreCore, LockCore and QueueCore have in common; in Python each has its own fields.
 *
 * There is no gate. A step is done with the GIL held, and where other code may come in (a waiter is
 * woken, something is made or freed) the core is in order: so the R12 and R16 of the Python ones
 * do not arise. A line does not refer to its waiters: a waiter leaves it before it is freed.
 */
#ifndef TPY_WAITERS_CORE_H
#define TPY_WAITERS_CORE_H

#include "leaf.h"

typedef struct Link {
    struct Link *next, *prev;  /* a ring; NULL when it stands in no line */
} Link;

typedef struct {
    PyObject_HEAD
    Link ring;  /* its head */
    Py_ssize_t length;
} Waiters;

typedef struct {
    PyObject_HEAD
    Waiters *takers;        /* the waiters for a permit or a value */
    Py_ssize_t count;    /* permits or values that are there; then no taker waits, but for more */
    Py_ssize_t bound;    /* of a SemaphoreCore: how many permits there may be */
    /* of a QueueCore */
    Waiters *givers;        /* the waiters for room; then there is none */
    PyObject *values;    /* a deque; NULL: permits, which are only counted */
    Py_ssize_t capacity; /* 0: the takers that wait are the room */
    Py_ssize_t slots;    /* room that was granted to givers that have not used it yet */
    char closed;         /* then there are no waiters */
    /* of a LockCore */
    PyTypeObject *make;  /* its kind of GuardCore */
    PyObject *at_once;   /* a ReadyNow, for the guard of an async with that need not wait */
    PyObject *owner;     /* the Context of the task or what stands for the thread that has it, or NULL */
    PyObject *entered;   /* the guard of the (async) with that is inside, or NULL */
} WaitersCore;

typedef struct {
    PyObject_HEAD
    WaitersCore *mutex;
    char held;
} GuardCore;

enum state {
    TRYING,   /* nothing is granted to it, in line or not */
    TURN,     /* a giver's: it has a slot */
    GRANTED,  /* a giver's value was taken; a taker has its permit, its value, or the lock */
};

typedef struct {
    Leaf leaf;
    Link link;
    WaitersCore *core;
    PyObject *value;  /* that it gives, or was granted; or NULL */
    GuardCore *guard;       /* of a LockCore: what will have it */
    PyObject *owner;    /* of a LockCore: its owner then; a task's is found when it is polled */
    PyObject *wake;   /* the waiter's Waker or, in a thread, a lock to release; or NULL */
    Py_ssize_t n;     /* of a SemaphoreCore: how many permits it waits for; else 1 */
    char state;       /* enum state */
    char gives;
    char enters;      /* the lock's `entered` will be its guard */
} Waiter;

/* The one whose turn it is, borrowed, or NULL. */
Waiter *tpy_first(Waiters *line);

/* Join its line at the end, or at the front if it had its turn already; and leave it. */
void tpy_enter_line(Waiter *self, int in_front);
void tpy_leave_line(Waiter *self);

/* Take what it waits for if it is its turn. WAIT: it is not, and if it had been before, that is over. */
enum step tpy_try(Waiter *self);

/* The same, or stand in line, to be woken by `waker`. */
enum step tpy_look(Waiter *self, PyObject *waker);

/* A permit or a value, for the first waiter, or to be kept, first of all or last. Takes the
 * reference to `value`. -1: an exception is set, and the value is lost. */
int tpy_put(WaitersCore *self, PyObject *value, int in_front);

/* More permits, or none, for those in line whose turn it is. */
void tpy_put_permits(WaitersCore *self, Py_ssize_t n);

/* Take a value that is there, or a permit. */
int tpy_take_out(WaitersCore *self, PyObject **value);

/* What it waits for is its own from now on. Takes the reference to `value`. */
void tpy_grant(Waiter *self, PyObject *value);

/* Have it look again. Afterwards it may be gone. */
void tpy_wake_wait(Waiter *self);

bool tpy_has_room(WaitersCore *self);
void tpy_grant_slots(WaitersCore *self);
void tpy_close_core(WaitersCore *self);
enum step tpy_raise_closed(PyObject *value);  /* FAILED */
void tpy_unlock(GuardCore *self);

Waiter *tpy_new_waiter(WaitersCore *core);

/* Have this thread wait, and return what it waited for. Takes the reference to `wait`, or NULL with
 * an exception set. If it raises, it has taken nothing. */
PyObject *tpy_block(Waiter *wait, PyObject *timeout);

/* block(operation, timeout) */
PyObject *tpy_block_function(PyObject *module, PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords);
WaitersCore *tpy_new_core(PyTypeObject *type);
Waiters *tpy_new_waiters(void);

/* Takes the reference to `by`. */
void tpy_replace(PyObject **place, PyObject *by);

int tpy_core_traverse(WaitersCore *self, visitproc visit, void *arg);
int tpy_core_clear(WaitersCore *self);
void tpy_core_dealloc(WaitersCore *self);

#define TPY_CORE_SLOTS                                                                            \
    {Py_tp_traverse, tpy_core_traverse}, {Py_tp_clear, tpy_core_clear},                          \
        {Py_tp_dealloc, tpy_core_dealloc}

int tpy_add_waiters(PyObject *module);
extern PyTypeObject *tpy_ReadyNow;
extern PyObject *tpy_at_once_none;  /* a ReadyNow that gives None */

typedef struct {
    PyObject_HEAD
    PyObject *result;  /* what the next await gives; NULL: None */
} ReadyNow;

/* A permit for the task that is being polled, if it need not wait: the context, or NULL. Only for an
 * async with, which awaits what it is given. */
Context *tpy_take_at_once(WaitersCore *self);

/* The arguments (timeout=None); a borrowed reference, or NULL with an exception set. */
PyObject *tpy_parse_timeout(PyObject *args, PyObject *kwargs);

int tpy_add_semaphore_core(PyObject *module);
int tpy_add_lock_core(PyObject *module);
int tpy_add_queue_core(PyObject *module);

#endif
