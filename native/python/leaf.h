/* A leaf is a future, written as an iterator: the coroutine that awaits it resumes it directly, with
 * no Python frame between. Here is what all leaves have in common: see leaf.py, and poll_until_ready
 * in future.py. */
#ifndef TPY_LEAF_H
#define TPY_LEAF_H

#include "binding.h"

#include <stdbool.h>

enum step { FAILED, DONE, WAIT, AGAIN };

typedef struct Leaf Leaf;

typedef struct {
    /* Try to finish. FAILED: an exception is set; DONE: with a result; WAIT: the waker of `cx` is
     * with the part that will call it. Never AGAIN. */
    enum step (*advance)(Leaf *self, Context *cx, PyObject **result);
    /* Take back whatever was registered. After FAILED and DONE too, and perhaps again. */
    void (*drop)(Leaf *self);
    /* See Future._delivered in future.py; NULL: never. */
    bool (*delivered)(Leaf *self);
} LeafKind;

/* See leaf.py, where all from AWAITED on is "used". */
enum use {
    NEW,      /* freed now, it was forgotten */
    HANDED,   /* another object owns it */
    POLLED,   /* by hand */
    AWAITED,  /* the await has not begun: the task had no budget left */
    REFUSED,  /* nor has this one: it was to begin in a cancelled scope */
    BEGUN,
    ENDED,
};

struct Leaf {
    PyObject_HEAD
    const LeafKind *kind;
    const trale_cell *task;  /* that polls or awaits it; compared only, NULL: it is not known */
    char use;                /* enum use */
};

/* A new leaf, which the collector tracks, as Future is a class of Python's. */
Leaf *tpy_new_leaf(PyTypeObject *type, const LeafKind *kind);

/* Its await, or a thread's wait for it, begins: -1, with an exception set, if one has before. */
int tpy_leaf_use(Leaf *self);

PySendResult tpy_leaf_send(Leaf *self, PyObject *value, PyObject **result);
PyObject *tpy_leaf_next(Leaf *self);
PyObject *tpy_leaf_await(Leaf *self);
PyObject *tpy_leaf_poll(Leaf *self, PyObject *cx);
PyObject *tpy_leaf_drop(Leaf *self, PyObject *ignored);
PyObject *tpy_leaf_send_by_hand(Leaf *self, PyObject *value);
PyObject *tpy_leaf_use_method(Leaf *self, PyObject *ignored);
PyObject *tpy_leaf_hand_over(Leaf *self, PyObject *ignored);
PyObject *tpy_leaf_getattr(PyObject *self, PyObject *name);
void tpy_leaf_finalize(Leaf *self);
int tpy_leaf_warn(Leaf *self);
PyObject *tpy_leaf_delivered(Leaf *self, PyObject *ignored);
PyObject *tpy_leaf_throw(Leaf *self, PyObject *args);
extern PyMethodDef tpy_leaf_methods[];

/* What a leaf's dealloc asks first. True: it was forgotten, and the warning has kept it alive. */
static inline int tpy_leaf_stays(void *self)
{
    return ((Leaf *)self)->use == NEW && tpy_leaf_warn(self);
}

#define TPY_LEAF_METHODS                                                                           \
    {"poll", (PyCFunction)tpy_leaf_poll, METH_O, NULL},                                            \
        {"drop", (PyCFunction)tpy_leaf_drop, METH_NOARGS, NULL},                                   \
        {"close", (PyCFunction)tpy_leaf_drop, METH_NOARGS, NULL},                                  \
        {"throw", (PyCFunction)tpy_leaf_throw, METH_VARARGS, NULL},                                \
        {"send", (PyCFunction)tpy_leaf_send_by_hand, METH_O, NULL},                                \
        {"_use", (PyCFunction)tpy_leaf_use_method, METH_NOARGS, NULL},                                    \
        {"_hand_over", (PyCFunction)tpy_leaf_hand_over, METH_NOARGS, NULL},                        \
        {"_delivered", (PyCFunction)tpy_leaf_delivered, METH_NOARGS, NULL}

/* Of a leaf that has no methods but these. */
#define TPY_LEAF_SLOTS                                                                             \
    {Py_tp_methods, tpy_leaf_methods}, TPY_LEAF_PROTOCOL
#define TPY_LEAF_PROTOCOL                                                                          \
    {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, tpy_leaf_next},                              \
        {Py_am_await, tpy_leaf_await}, {Py_am_send, tpy_leaf_send},                                \
        {Py_tp_getattro, tpy_leaf_getattr}, {Py_tp_finalize, tpy_leaf_finalize}

/* The types of leaves, made when there is a Future to derive them from. */
int tpy_add_operations(PyObject *module, PyObject *base);
int tpy_add_yield_now(PyObject *module, PyObject *base);
int tpy_add_latch_wait(PyObject *module, PyObject *base);
int tpy_add_sleep_wait(PyObject *module, PyObject *base);
int tpy_add_waiter(PyObject *module, PyObject *base);

#endif
