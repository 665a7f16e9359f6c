/* A leaf is a future, written as an iterator: the coroutine that awaits it resumes it directly, with
 * no Python frame between. Here is what all leaves have in common; it does what Future.__await__
 * does in future.py. */
#ifndef TRALE_LEAF_H
#define TRALE_LEAF_H

#include "binding.h"

enum step { FAILED, DONE, WAIT, AGAIN };

typedef struct Leaf Leaf;

typedef struct {
    /* Try to finish. FAILED: an exception is set; DONE: with a result; WAIT: the waker of `cx` is
     * with whoever will call it. Never AGAIN. */
    enum step (*advance)(Leaf *self, Context *cx, PyObject **result);
    /* Take back whatever was registered, and be as new. After FAILED and DONE too. */
    void (*drop)(Leaf *self);
} LeafKind;

struct Leaf {
    PyObject_HEAD
    const LeafKind *kind;
    const trale_cell *awaited_by;  /* compared only; NULL: it has not begun */
};

/* A new leaf, which the collector tracks, as Future is a class of Python's. */
Leaf *trale_new_leaf(PyTypeObject *type, const LeafKind *kind);

PySendResult trale_leaf_send(Leaf *self, PyObject *value, PyObject **result);
PyObject *trale_leaf_next(Leaf *self);
PyObject *trale_leaf_await(Leaf *self);
PyObject *trale_leaf_poll(Leaf *self, PyObject *cx);
PyObject *trale_leaf_drop(Leaf *self, PyObject *ignored);
PyObject *trale_leaf_throw(Leaf *self, PyObject *args);
extern PyMethodDef trale_leaf_methods[];

#define TRALE_LEAF_METHODS                                                                         \
    {"poll", (PyCFunction)trale_leaf_poll, METH_O, NULL},                                          \
        {"drop", (PyCFunction)trale_leaf_drop, METH_NOARGS, NULL},                                 \
        {"close", (PyCFunction)trale_leaf_drop, METH_NOARGS, NULL},                                \
        {"throw", (PyCFunction)trale_leaf_throw, METH_VARARGS, NULL}

/* Of a leaf that has no methods but these. */
#define TRALE_LEAF_SLOTS                                                                           \
    {Py_tp_methods, trale_leaf_methods}, TRALE_LEAF_PROTOCOL
#define TRALE_LEAF_PROTOCOL                                                                        \
    {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, trale_leaf_next},                            \
        {Py_am_await, trale_leaf_await}, {Py_am_send, trale_leaf_send}

/* The types of leaves, made when there is a Future to derive them from. */
int trale_add_operations(PyObject *module, PyObject *base);
int trale_add_yield(PyObject *module, PyObject *base);
int trale_add_latch_wait(PyObject *module, PyObject *base);
int trale_add_sleep(PyObject *module, PyObject *base);
int trale_add_waits(PyObject *module, PyObject *base);

#endif
