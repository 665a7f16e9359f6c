/* Tasks, their outcomes and handles: what spawning, polling and joining a task must do each time.
 *
 * Each type here is the base of the Python class of the same name, and has its fields. A method that
 * is written here too does what the Python one does, in the usual case; whatever is unusual it leaves
 * to that one (see core/engine.py).
 *
 * Python code may set, delete and call whatever it can see. So an object is whole when it is made (its
 * type's __new__ takes what is needed, and __init__ does nothing), a field that never changes is
 * read-only, and one that changes is checked when it is set. */
#ifndef TPY_TASK_H
#define TPY_TASK_H

#include "binding.h"

/* See latch.py. The first waiter needs no dict. */
typedef struct {
    PyObject_HEAD
    PyObject *key, *call;  /* of the first; NULL: no waiter, or all are in `more` */
    PyObject *more;        /* {key: call} of the later ones; NULL until there is one */
    char opened;
} Latch;

/* See outcome.py.
 *
 * The collector walks what it tracks again and again, and of a million tasks that was more than half
 * of the time. So what spawn() makes is not tracked before it can be part of a cycle: the outcome has
 * an error, or a value that is tracked, or the handle has a job. Until then nothing of it is garbage
 * that a live task does not hold anyway. */
typedef struct {
    Latch latch;
    struct JoinHandle *handle;  /* that spawn() made; borrowed, NULL once it is gone */
    PyObject *id, *name;
    PyObject *code;        /* where it was spawned */
    PyObject *error, *value, *traceback;
    PyObject *unclaimed;
    int offset;
    char abandoned, cancelled;
} Outcome;

/* See join.py. */
typedef struct JoinHandle {
    PyObject_HEAD
    PyObject *runtime;
    Outcome *outcome;
    PyObject *job;
} JoinHandle;

/* See task.py. The collector does not see through it: while it lives its cell has a reference that the
 * collector would not see, and at its end it lets go of all that might refer to it. */
typedef struct {
    PyObject_HEAD
    PyObject *coro, *id, *name, *parent_id;
    Context *cx;
    Outcome *outcome;      /* NULL once it is settled */
    PyObject *scope, *root, *group;
    PyObject *context;     /* the contextvars.Context it runs in */
    PyObject *value, *error, *thrown;
    PyObject *code;        /* where it was spawned */
    int offset;
    char turn;             /* it may be polled now, by Python code */
    char started, ended, cancel_called;
} Task;

/* See runtime.py: the part that each spawn, poll and end looks at. */
typedef struct {
    PyObject_HEAD
    RunQueue *run_queue;
    PyObject *tasks, *unclaimed;
    long long last_id;
    Latch *is_started, *has_ended;
    char closing, forked;
} Runtime;

/* The classes made of those below, of which new objects are. */
extern struct classes {
    PyTypeObject *task, *latch, *outcome, *handle;
} tpy_classes;

extern PyTypeObject *tpy_Latch, *tpy_Outcome, *tpy_Task, *tpy_JoinHandle, *tpy_Runtime;

/* NULL with an exception set. */
Latch *tpy_new_latch(void);
PyObject *tpy_new_latch_wait(JoinHandle *handle);

/* Wake all waiters. -1: a callback has failed. */
int tpy_open_latch(Latch *self);
int tpy_latch_traverse(Latch *self, visitproc visit, void *arg);
int tpy_latch_clear(Latch *self);

/* An outcome, and its handle; not tracked. Take nothing; NULL with an exception set. */
Outcome *tpy_new_outcome(void);
PyObject *tpy_new_handle(PyObject *runtime, Outcome *outcome);

/* Settle with that value, whose reference it takes. -1: a callback has failed. */
int tpy_succeed(Outcome *self, PyObject *value);

static inline PyObject *tpy_outcome_value(Outcome *outcome)
{
    return Py_NewRef(outcome->value == NULL ? Py_None : outcome->value);
}

/* From now on the collector sees it. NULL is nothing. */
static inline void tpy_track(void *object)
{
    if (object != NULL && !PyObject_GC_IsTracked((PyObject *)object))
        PyObject_GC_Track(object);
}

int tpy_add_latch(PyObject *module);
int tpy_add_outcome(PyObject *module);
int tpy_add_join(PyObject *module);
extern PyObject *tpy_CoroutineType;

/* Not tracked; its parent is the task that is being polled. NULL with an exception set. */
Task *tpy_new_task(Runtime *runtime, PyObject *coro, Outcome *outcome);

/* 1: it has ended, 0: it has not, -1: an exception is set, which is not the task's. */
int tpy_poll_task(Task *self);

/* The exception that is set, as an object; it is not set any more. */
PyObject *tpy_caught(void);

int tpy_add_task(PyObject *module);
int tpy_add_executor(PyObject *module);
int tpy_add_runtime(PyObject *module);
void tpy_made(PyTypeObject *class);  /* from now on new objects are of that class */
PyObject *tpy_spawn(PyObject *module, PyObject *const *args, Py_ssize_t count, PyObject *keywords);

#endif
