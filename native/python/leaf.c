#include "leaf.h"
#include "registry.h"

PyObject *tpy_PENDING;
static PyObject *leaf_Future, *leaf_Ready, *leaf_warn_forgotten;  /* the package's own */
static PyObject *leaf_guest_context, *leaf_guest_wait;            /* of future.py */

Leaf *tpy_new_leaf(PyTypeObject *type, const LeafKind *kind)
{
    Leaf *self = tpy_new_object(type);
    if (self != NULL)
        self->kind = kind;
    return self;
}

/* ---- the one await of a leaf -------------------------------------------------------------------- */

static int leaf_refuse(Leaf *self)
{
    PyErr_Format(PyExc_RuntimeError,
                 "cannot await %R again: it can be awaited once only", self);
    return -1;
}

int tpy_leaf_use(Leaf *self)
{
    Context *cx = tpy_polling();
    const trale_cell *task = cx == NULL ? NULL : cx->waker->cell;
    if (self->use > POLLED || (self->use == POLLED && self->task != task))
        return leaf_refuse(self);
    self->use = AWAITED;
    self->task = task;
    return 0;
}

static bool leaf_delivered(Leaf *self)
{
    return self->kind->delivered != NULL && self->kind->delivered(self);
}

/* The task is cancelled: see poll_until_ready. AGAIN: what it waits for is delivered. */
static enum step leaf_last_look(Leaf *self, Context *cx)
{
    if (self->use == REFUSED || !leaf_delivered(self))
        return WAIT;
    cx->last_look = 0;
    self->use = BEGUN;
    return AGAIN;
}

/* What comes before the first try. AGAIN: go on; WAIT: not in this turn. */
static enum step leaf_begin(Leaf *self, Context *cx)
{
    if (self->use < AWAITED && tpy_leaf_use(self) < 0)
        return FAILED;
    if (self->use == ENDED || (cx != NULL && self->task != NULL && self->task != cx->waker->cell)) {
        leaf_refuse(self);
        return FAILED;
    }
    /* No context: this coroutine is not driven by our executor. */
    if (cx == NULL)
        return WAIT;
    if (cx->last_look)
        return leaf_last_look(self, cx);
    if (--cx->budget < 0 || cx->cancelled) {
        self->use = cx->cancelled ? REFUSED : AWAITED;
        trale_wake(cx->waker->run_queue->engine, cx->waker->cell);
        return WAIT;
    }
    self->use = BEGUN;
    return AGAIN;
}

static void leaf_drop(Leaf *self)
{
    self->use = ENDED;
    self->kind->drop(self);
}

/* The same, with an exception set, which is kept. */
static void leaf_drop_failed(Leaf *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    leaf_drop(self);
    PyErr_Restore(type, value, traceback);
}

static enum step leaf_advance(Leaf *self, Context *cx, PyObject **result)
{
    *result = NULL;
    self->task = cx->waker->cell;
    enum step now = self->kind->advance(self, cx, result);
    if (now == DONE)
        leaf_drop(self);
    else if (now == FAILED)
        leaf_drop_failed(self);
    return now;
}

/* No task runs this code, but asyncio may: see _outside_of_tasks in future.py. */
static PySendResult leaf_send_outside(Leaf *self, PyObject **result)
{
    *result = NULL;
    PyObject *cx = PyObject_CallNoArgs(leaf_guest_context);
    if (cx == NULL)
        return PYGEN_ERROR;
    PySendResult how = PYGEN_NEXT;
    if (PyObject_TypeCheck(cx, tpy_Context)) {
        tpy_set_polling((Context *)cx);
        how = tpy_leaf_send(self, NULL, result);
        tpy_set_polling(NULL);
        if (how == PYGEN_NEXT) {
            DECREF(*result);
            *result = PyObject_CallFunctionObjArgs(leaf_guest_wait, cx, NULL);
        }
    } else if (leaf_begin(self, NULL) == WAIT) {
        *result = Py_NewRef(tpy_PENDING);
    } else {
        *result = NULL;
    }
    DECREF(cx);
    return *result == NULL ? PYGEN_ERROR : how;
}

PySendResult tpy_leaf_send(Leaf *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    Context *cx = tpy_polling();
    if (cx == NULL)
        return leaf_send_outside(self, result);
    enum step now = AGAIN;
    if (self->use != BEGUN || cx->last_look || self->task != cx->waker->cell)
        now = leaf_begin(self, cx);
    switch (now == AGAIN ? leaf_advance(self, cx, result) : now) {
    case DONE:
        return PYGEN_RETURN;
    case WAIT:
        *result = Py_NewRef(tpy_PENDING);
        return PYGEN_NEXT;
    default:
        return PYGEN_ERROR;
    }
}

PyObject *tpy_leaf_next(Leaf *self)
{
    return tpy_leaf_send_by_hand(self, Py_None);
}

PyObject *tpy_leaf_await(Leaf *self)
{
    return tpy_leaf_use(self) < 0 ? NULL : Py_NewRef((PyObject *)self);
}

PyObject *tpy_leaf_use_method(Leaf *self, PyObject *Py_UNUSED(ignored))
{
    if (tpy_leaf_use(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *tpy_leaf_hand_over(Leaf *self, PyObject *Py_UNUSED(ignored))
{
    if (self->use == NEW)
        self->use = HANDED;
    Py_RETURN_NONE;
}

/* ---- by hand -------------------------------------------------------------------------------------- */

PyObject *tpy_leaf_send_by_hand(Leaf *self, PyObject *value)
{
    PyObject *result;
    switch (tpy_leaf_send(self, value, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN: {
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

PyObject *tpy_leaf_poll(Leaf *self, PyObject *cx)
{
    if (!PyObject_TypeCheck(cx, tpy_Context)) {
        PyErr_Format(PyExc_TypeError, "cx must be a Context, not %R", cx);
        return NULL;
    }
    if (self->use > POLLED) {
        leaf_refuse(self);
        return NULL;
    }
    self->use = POLLED;
    PyObject *value, *ready;
    switch (leaf_advance(self, (Context *)cx, &value)) {
    case DONE:
        ready = PyObject_CallFunctionObjArgs(leaf_Ready, value, NULL);
        DECREF(value);
        return ready;
    case WAIT:
        return Py_NewRef(tpy_PENDING);
    default:
        return NULL;
    }
}

PyObject *tpy_leaf_drop(Leaf *self, PyObject *Py_UNUSED(ignored))
{
    leaf_drop(self);
    Py_RETURN_NONE;
}

PyObject *tpy_leaf_delivered(Leaf *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(leaf_delivered(self));
}

/* throw(error), as the interpreter calls it; or with a class, and perhaps its argument. */
PyObject *tpy_leaf_throw(Leaf *self, PyObject *args)
{
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback))
        return NULL;
    if (!PyExceptionClass_Check(type) && !PyExceptionInstance_Check(type)) {
        PyErr_Format(PyExc_TypeError, "the argument must be an exception, not %R", type);
        return NULL;
    }
    leaf_drop(self);
    if (PyType_Check(type))
        PyErr_SetObject(type, value);
    else
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    return NULL;
}

PyObject *tpy_leaf_getattr(PyObject *self, PyObject *name)
{
    PyObject *found = PyObject_GenericGetAttr(self, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError) && PyUnicode_Check(name)
        && PyUnicode_ReadChar(name, 0) != '_') {
        PyErr_Clear();
        PyErr_Format(PyExc_AttributeError, "%R has no attribute %R: did you forget await?", self,
                     name);
    }
    return found;
}

/* ---- forgotten ------------------------------------------------------------------------------------ */

/* The collector calls it for what is in a cycle, before it takes that apart. */
void tpy_leaf_finalize(Leaf *self)
{
    if (self->use != NEW)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    self->use = ENDED;
    PyObject *done = PyObject_CallFunctionObjArgs(leaf_warn_forgotten, self, NULL);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)self);
    XDECREF(done);
    self->kind->drop(self);
    PyErr_Restore(type, value, traceback);
}

/* In a dealloc. A warning refers to what it is about, so for that time there is a reference. */
int tpy_leaf_warn(Leaf *self)
{
    PyObject *object = (PyObject *)self;
    Py_SET_REFCNT(object, 1);
    tpy_leaf_finalize(self);
    Py_SET_REFCNT(object, Py_REFCNT(object) - 1);
    return Py_REFCNT(object) > 0;
}

PyMethodDef tpy_leaf_methods[] = {
    TPY_LEAF_METHODS,
    {NULL, NULL, 0, NULL},
};

/* The types of leaves are futures: made when there is a Future to derive them from. */
static int leaf_add_all(PyObject *module)
{
    if (tpy_add_operations(module, leaf_Future) < 0 || tpy_add_sleep_wait(module, leaf_Future) < 0
        || tpy_add_latch_wait(module, leaf_Future) < 0 || tpy_add_yield_now(module, leaf_Future) < 0
        || tpy_add_waiter(module, leaf_Future) < 0)
        return -1;
    return 0;
}

static const tpy_use leaf_uses[] = {
    {TPY_USE_OBJECT, "trale_py.core.future", "Future", .place = &leaf_Future},
    {TPY_USE_OBJECT, "trale_py.core.future", "Ready", .place = &leaf_Ready},
    {TPY_USE_OBJECT, "trale_py.core.future", "PENDING", .place = &tpy_PENDING},
    {TPY_USE_OBJECT, "trale_py.core.future", "guest_context", .place = &leaf_guest_context},
    {TPY_USE_OBJECT, "trale_py.core.future", "guest_wait", .place = &leaf_guest_wait},
    {TPY_USE_OBJECT, "warn_forgotten", NULL, .place = &leaf_warn_forgotten},
    {0},
};

const tpy_uses tpy_leaf_uses = {"leaf.c", .after = "warn_forgotten", .then = leaf_add_all, .table = leaf_uses};
