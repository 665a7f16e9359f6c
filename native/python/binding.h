/* The binding: the engine's objects as Python sees them. Thin, on the stable ABI.
 *
 * The GIL is kept in every call but RunQueue.next_batch when it must wait, and Poller.run. What is
 * kept takes less than a microsecond and never waits; a thread that drops the GIL may get it back
 * only after the switch interval of 5 ms, if another one computes. The one exception follows from
 * that: while another thread computes, next_batch first waits in epoll with the GIL kept, after I/O
 * and for TRALE_MOMENT_NS, 50 us, at most (trale_wait_a_moment). The order is: GIL, then the engine's
 * lock; no thread takes the GIL while it holds the lock.
 *
 * Names
 *     trale_ begins what the engine shows, tpy_ what the binding does. A static name begins with its
 *     file's, so that gdb and perf tell one drop() from another; what is in a type's slots begins
 *     with the type's (Waker_new in waker.c). All files are compiled as one (setup.py), which makes
 *     calls from one to another as cheap as those within: so no two may have a static name in common,
 *     nor a macro.
 *
 * Cells, and the owners of what they stand for
 *     KIND_TASK  the cell belongs to a Waker and its copies; its owner is the task, with a reference
 *                from the push to the end.
 *     KIND_CALL  the owner is something to call, with a reference.
 *     KIND_WAKE  the owner is an object with a wake(), with a reference: a user's own waker.
 * In the latter two, the one that takes the cell out of the queue, the heap or a list of waiters has the
 * reference. All owners are written with the GIL held.
 */
#ifndef TPY_BINDING_H
#define TPY_BINDING_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <structmember.h>

#include "engine.h"

/* In the headers of 3.12, and of 3.13 up to 3.13.4, these give out no reference, as if every Python
 * that loads this had immortal objects (gh-134989): under 3.11 there would soon be no None, no True
 * and no False left. */
#undef Py_RETURN_NONE
#undef Py_RETURN_TRUE
#undef Py_RETURN_FALSE
#undef Py_RETURN_NOTIMPLEMENTED
#define Py_RETURN_NONE return Py_NewRef(Py_None)
#define Py_RETURN_TRUE return Py_NewRef(Py_True)
#define Py_RETURN_FALSE return Py_NewRef(Py_False)
#define Py_RETURN_NOTIMPLEMENTED return Py_NewRef(Py_NotImplemented)

/* From 3.11 on the stable ABI's own do not cast. */
#define INCREF(object) Py_INCREF((PyObject *)(object))
#define DECREF(object) Py_DECREF((PyObject *)(object))
#define XDECREF(object) Py_XDECREF((PyObject *)(object))
#define NEWREF(type, object) ((type *)Py_NewRef((PyObject *)(object)))

enum { KIND_TASK, KIND_CALL, KIND_WAKE };

typedef struct {
    PyObject_HEAD
    trale_engine *engine;
    char contended;      /* the last time, another thread kept the GIL: it computes */
    char shared;         /* asyncio has been told that this thread is an executor's */
    Py_ssize_t modules;  /* how many were imported when asyncio was last looked for */
    PyObject *fault;     /* what RunQueue.fail was given, until next_batch raises it */
    struct Simulation *simulation;   /* of a test, or NULL */
    trale_simulation *simulated;     /* the engine's part of it */
    struct Waker *live;  /* a ring of the wakers whose tasks were pushed and have not ended */
} RunQueue;

typedef struct Waker {
    PyObject_HEAD
    RunQueue *run_queue;
    trale_cell *cell;
    struct Waker *next, *prev;  /* in the ring of live tasks; NULL while the task is not live */
    PyObject *task_id;          /* for people */
} Waker;

/* The collector does not see through it: there is one for every task, what it refers to lives as
 * long as tasks do, and nothing there refers back to it. */
typedef struct {
    PyObject_HEAD
    Waker *waker;
    PyObject *runtime;
    int budget;      /* operations left to the task in this turn */
    char cancelled;  /* the task is inside a cancelled scope */
    char last_look;  /* see waker.py */
    char ended;      /* its end is claimed */
} Context;

typedef struct {
    PyObject_HEAD
    RunQueue *run_queue;
    trale_source *source;   /* NULL once it is not watched any more */
    PyObject *entries;      /* a dict of the wakers that no socket of ours has put there */
    int fd;
    int users;
    char pollable;
} Source;

/* See timer_heap.py. */
typedef struct {
    PyObject_HEAD
    RunQueue *run_queue;
    trale_timer timer;
    PyObject *wakeable;
} TimerEntry;

extern PyTypeObject *tpy_RunQueue, *tpy_Waker, *tpy_Context, *tpy_Source, *tpy_TimerEntry;

void tpy_clear_timer(TimerEntry *self);

/* The context that this thread is polling with, or NULL. Borrowed. */
Context *tpy_polling(void);

void tpy_set_polling(Context *cx);

/* The runtime whose executor this thread is, or NULL. Borrowed. */
PyObject *tpy_thread_runtime(void);

/* The one that it acts on where it is no executor: of its `with` block, of its pool; or NULL. Borrowed. */
PyObject *tpy_thread_chosen(void);

/* The time on the clock of deadlines of the task that is being polled; if none is, the kernel's. */
int64_t tpy_now(void);
PyObject *tpy_now_ns(PyObject *module, PyObject *ignored);

/* Hand over a new task, whose waker it is (false: it is not new); and have it known no more. */
bool tpy_push_task(RunQueue *self, Waker *waker, PyObject *task);
void tpy_remove_task(RunQueue *self, Waker *waker);

/* The waker of a Task of this queue, borrowed; and a list of all its tasks. NULL with an exception set. */
Waker *tpy_waker_of(RunQueue *self, PyObject *task);
PyObject *tpy_live_tasks(RunQueue *self);

/* A cell that wakes `wakeable`: a Waker's own, or one of KIND_WAKE, waiting, with a reference to it.
 * A new reference; NULL with an exception set. */
trale_cell *tpy_cell_for(PyObject *wakeable);

/* Give up a cell of tpy_cell_for that was taken back before it was woken. */
void tpy_release_cell(trale_cell *cell);

extern PyObject *tpy_PENDING;  /* the package's own */

/* A new type, added to `module`; a borrowed reference, the module keeps it. */
PyTypeObject *tpy_add_type(PyObject *module, PyType_Spec *spec, PyObject *base);

/* A context to poll the task of that id with, and in it its waker. A new reference. */
Context *tpy_new_context(RunQueue *run_queue, PyObject *task_id, PyObject *runtime);

int tpy_add_run_queue(PyObject *module);
int tpy_add_waker(PyObject *module);
int tpy_add_thread_state(PyObject *module);
int tpy_add_source(PyObject *module);
int tpy_add_timer_entry(PyObject *module);
int tpy_add_poller(PyObject *module);
int tpy_add_io(PyObject *module);
int tpy_add_with_block(PyObject *module);
int tpy_add_finalizers(PyObject *module);

/* For a field that Python code may have set to None. */
static inline int tpy_is_none(PyObject *field)
{
    return field == NULL || field == Py_None;
}

/* A field that Python code sets and code in C uses unchecked: the closure of a PyGetSetDef. It is of
 * its type, or, if it may be empty, NULL, which Python code sees as None. */
typedef struct {
    const char *name;
    size_t offset;
    PyTypeObject **type;
    bool may_be_empty;
} tpy_field;

PyObject *tpy_get_field(void *self, void *field);
int tpy_set_field(void *self, PyObject *value, void *field);

/* Of a type whose objects are whole when they are made: calling it again changes nothing. */
int tpy_init_nothing(PyObject *self, PyObject *args, PyObject *kwargs);

/* Of a PyMethodDef: a function that takes its arguments so. */
#define TPY_FAST(function)                                                                         \
    (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

/* A new object. NULL with an exception set; also if `type` is NULL, as it has not been made yet. */
void *tpy_new_object(PyTypeObject *type);

/* The same, of a class of Python's with a __dict__, as object.__new__ makes it: only then are its
 * attributes found without a look into the dict. */
void *tpy_new_with_dict(PyTypeObject *type);

/* Call a method with one argument, or with none, for what it does. */
int tpy_call_method(void *object, PyObject *name, void *argument);

/* Free an object of a type of ours, and give back its reference to the type. */
void tpy_free_object(void *self);

PyObject *tpy_raise(int error);  /* OSError for an errno or its negative; NULL */

#endif
