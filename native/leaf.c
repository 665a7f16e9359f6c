#include "leaf.h"
#include "registry.h"

PyObject *trale_PENDING;
static PyObject *Ready;  /* the package's own */

Leaf *trale_new_leaf(PyTypeObject *type, const LeafKind *kind)
{
    Leaf *self = (Leaf *)PyType_GenericAlloc(type, 0);
    if (self != NULL)
        self->kind = kind;
    return self;
}

static void drop(Leaf *self)
{
    self->awaited_by = NULL;
    self->kind->drop(self);
}

static enum step advance(Leaf *self, Context *cx, PyObject **result)
{
    *result = NULL;
    self->awaited_by = cx->waker->cell;
    enum step now = self->kind->advance(self, cx, result);
    if (now == WAIT)
        return WAIT;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    drop(self);
    PyErr_Restore(type, value, traceback);
    return now;
}

PySendResult trale_leaf_send(Leaf *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    Context *cx = trale_polling();
    /* No context: whoever drives this coroutine is not an executor of ours. */
    if (cx == NULL) {
        *result = Py_NewRef(trale_PENDING);
        return PYGEN_NEXT;
    }
    if (self->awaited_by == NULL && (--cx->budget < 0 || cx->cancelled)) {
        trale_wake(cx->waker->run_queue->engine, cx->waker->cell);
        *result = Py_NewRef(trale_PENDING);
        return PYGEN_NEXT;
    }
    switch (advance(self, cx, result)) {
    case DONE:
        return PYGEN_RETURN;
    case WAIT:
        *result = Py_NewRef(trale_PENDING);
        return PYGEN_NEXT;
    default:
        return PYGEN_ERROR;
    }
}

PyObject *trale_leaf_next(Leaf *self)
{
    PyObject *result;
    switch (trale_leaf_send(self, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN: {
        if (result == Py_None) {  /* what the end of an iterator means, if nothing else is said */
            DECREF(result);
            return NULL;
        }
        PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
        DECREF(result);
        if (stop != NULL)
            PyErr_SetObject(PyExc_StopIteration, stop);
        XDECREF(stop);
        return NULL;
    }
    default:
        return NULL;
    }
}

/* Somebody who has polled it by hand may go on by awaiting it; but of two tasks that wait for it,
 * one would never be woken. */
PyObject *trale_leaf_await(Leaf *self)
{
    Context *cx = trale_polling();
    if (self->awaited_by != NULL && (cx == NULL || self->awaited_by != cx->waker->cell)) {
        PyErr_SetString(PyExc_RuntimeError, "another task awaits this operation already");
        return NULL;
    }
    return Py_NewRef((PyObject *)self);
}

PyObject *trale_leaf_poll(Leaf *self, PyObject *cx)
{
    if (!PyObject_TypeCheck(cx, trale_Context)) {
        PyErr_Format(PyExc_TypeError, "cx has to be a Context, not %R", cx);
        return NULL;
    }
    PyObject *value, *ready;
    switch (advance(self, (Context *)cx, &value)) {
    case DONE:
        ready = PyObject_CallFunctionObjArgs(Ready, value, NULL);
        DECREF(value);
        return ready;
    case WAIT:
        return Py_NewRef(trale_PENDING);
    default:
        return NULL;
    }
}

PyObject *trale_leaf_drop(Leaf *self, PyObject *Py_UNUSED(ignored))
{
    drop(self);
    Py_RETURN_NONE;
}

/* throw(error), as the interpreter calls it; or with a class, and perhaps its argument. */
PyObject *trale_leaf_throw(Leaf *self, PyObject *args)
{
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback))
        return NULL;
    if (!PyExceptionClass_Check(type) && !PyExceptionInstance_Check(type)) {
        PyErr_Format(PyExc_TypeError, "%R is no exception", type);
        return NULL;
    }
    drop(self);
    if (PyType_Check(type))
        PyErr_SetObject(type, value);
    else
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    return NULL;
}

PyMethodDef trale_leaf_methods[] = {
    TRALE_LEAF_METHODS,
    {NULL, NULL, 0, NULL},
};

static int add_leaves(PyObject *module, PyObject *future)
{
    if (trale_add_operations(module, future) < 0 || trale_add_sleep(module, future) < 0
        || trale_add_latch_wait(module, future) < 0 || trale_add_yield(module, future) < 0
        || trale_add_waits(module, future) < 0)
        return -1;
    return 0;
}

static const trale_use uses[] = {
    {TRALE_USE_OBJECT, "trale_py.core.future", "Ready", .place = &Ready},
    {TRALE_USE_OBJECT, "trale_py.core.future", "PENDING", .place = &trale_PENDING},
    {0},
};

const trale_uses trale_leaf_uses = {"leaf.c", .after = "Future", .then = add_leaves, .table = uses};
