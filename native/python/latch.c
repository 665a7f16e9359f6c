/* Latch, and LatchWait, which waits for one or for a handle: see latch.py, join.py. */

#include "leaf.h"
#include "registry.h"
#include "task.h"

PyTypeObject *tpy_Latch;
static PyTypeObject *LatchWait_type;
static PyObject *latch_name_result;

/* Waits for a latch; of a handle, it results in what that has. */
typedef struct {
    Leaf leaf;
    Latch *latch;
    JoinHandle *handle;    /* or NULL */
    RunQueue *run_queue;   /* NULL: it does not stand with the latch */
    trale_cell *cell;      /* whom to wake, with a reference */
} LatchWait;

/* ---- Latch -------------------------------------------------------------------------------------- */

/* Leave `call` for `key`, or, for a LatchWait, NULL. Keys are told apart by identity. */
static int latch_store(Latch *self, PyObject *key, PyObject *call)
{
    if (self->key == key || (self->key == NULL && self->more == NULL)) {
        PyObject *old = self->call;
        if (self->key == NULL)
            self->key = Py_NewRef(key);
        self->call = call;
        Py_XINCREF(call);
        Py_XDECREF(old);
        return 0;
    }
    if (self->more == NULL && (self->more = PyDict_New()) == NULL)
        return -1;
    return PyDict_SetItem(self->more, key, call == NULL ? Py_None : call);
}

/* Take out what was left for `key`. 0: there is nothing; -1: an exception is set. */
static int latch_take(Latch *self, PyObject *key, PyObject **call)
{
    PyObject *found;
    if (self->key == key) {
        found = self->call;
        self->key = self->call = NULL;
        Py_DECREF(key);
    } else {
        found = self->more == NULL ? NULL : PyDict_GetItem(self->more, key);
        if (found == NULL)
            return 0;
        Py_INCREF(found);
        if (PyDict_DelItem(self->more, key) < 0) {
            Py_DECREF(found);
            return -1;
        }
        if (found == Py_None)
            Py_CLEAR(found);
    }
    if (call == NULL)
        Py_XDECREF(found);
    else
        *call = found;
    return 1;
}

static int latch_let_through(Latch *self, PyObject *key)
{
    PyObject *call;
    int taken = latch_take(self, key, &call);
    if (taken <= 0)
        return taken;
    if (call == NULL) {
        if (!PyObject_TypeCheck(key, LatchWait_type))  /* a user's object, equal to a LatchWait */
            return 0;
        LatchWait *wait = (LatchWait *)key;
        trale_wake(wait->run_queue->engine, wait->cell);
        return 0;
    }
    PyObject *result = PyObject_CallNoArgs(call);
    Py_DECREF(call);
    XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* The same, when an exception may be set: the first of several is kept. */
static int latch_let_through_also(Latch *self, PyObject *key, bool failed)
{
    PyObject *type, *value, *traceback;
    if (!failed)
        return latch_let_through(self, key);
    PyErr_Fetch(&type, &value, &traceback);
    if (latch_let_through(self, key) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    return -1;
}

int tpy_open_latch(Latch *self)
{
    int error = 0;
    self->opened = 1;
    if (self->key != NULL) {
        PyObject *key = Py_NewRef(self->key);
        error = latch_let_through(self, key);
        Py_DECREF(key);
    }
    PyObject *keys = self->more == NULL ? NULL : PyDict_Keys(self->more);
    if (self->more != NULL && keys == NULL)
        return -1;
    for (Py_ssize_t n = 0; keys != NULL && n < PyList_Size(keys); n++)
        if (latch_let_through_also(self, PyList_GetItem(keys, n), error < 0) < 0)
            error = -1;
    XDECREF(keys);
    return error;
}

static PyObject *Latch_open(Latch *self, PyObject *Py_UNUSED(ignored))
{
    if (tpy_open_latch(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Latch_call_when_open(Latch *self, PyObject *args)
{
    PyObject *key, *call;
    if (!PyArg_ParseTuple(args, "OO:call_when_open", &key, &call))
        return NULL;
    if (!PyCallable_Check(call))
        return PyErr_Format(PyExc_TypeError, "call must be callable, not %R", call);
    if (self->opened)
        Py_RETURN_FALSE;
    if (latch_store(self, key, call) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *Latch_forget(Latch *self, PyObject *key)
{
    if (latch_take(self, key, NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Latch_waiters(Latch *self, void *Py_UNUSED(closure))
{
    PyObject *waiters = self->more == NULL ? PyDict_New() : PyDict_Copy(self->more);
    if (waiters != NULL && self->key != NULL
        && PyDict_SetItem(waiters, self->key, self->call == NULL ? Py_None : self->call) < 0)
        Py_CLEAR(waiters);
    return waiters;
}

Latch *tpy_new_latch(void)
{
    return tpy_new_object(tpy_classes.latch);
}

static int Latch_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    (void)self;
    return PyArg_ParseTupleAndKeywords(args, kwargs, ":Latch", names) ? 0 : -1;
}

int tpy_latch_traverse(Latch *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->key);
    Py_VISIT(self->call);
    Py_VISIT(self->more);
    return 0;
}

int tpy_latch_clear(Latch *self)
{
    Py_CLEAR(self->key);
    Py_CLEAR(self->call);
    Py_CLEAR(self->more);
    return 0;
}

static void Latch_dealloc(Latch *self)
{
    PyObject_GC_UnTrack(self);
    tpy_latch_clear(self);
    tpy_free_object(self);
}

static PyMethodDef Latch_methods[] = {
    {"open", (PyCFunction)Latch_open, METH_NOARGS, NULL},
    {"call_when_open", (PyCFunction)Latch_call_when_open, METH_VARARGS, NULL},
    {"forget", (PyCFunction)Latch_forget, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Latch_members[] = {
    {"opened", T_BOOL, offsetof(Latch, opened), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Latch_getset[] = {
    {"waiters", (getter)Latch_waiters, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Latch_slots[] = {
    {Py_tp_init, Latch_init},
    {Py_tp_traverse, tpy_latch_traverse},
    {Py_tp_clear, tpy_latch_clear},
    {Py_tp_dealloc, Latch_dealloc},
    {Py_tp_methods, Latch_methods},
    {Py_tp_members, Latch_members},
    {Py_tp_getset, Latch_getset},
    {0, NULL},
};

static PyType_Spec Latch_spec = {
    .name = "trale_py._native.Latch",
    .basicsize = sizeof(Latch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Latch_slots,
};

/* ---- LatchWait ---------------------------------------------------------------------------------- */

static void latch_drop(Leaf *leaf)
{
    LatchWait *self = (LatchWait *)leaf;
    if (self->run_queue == NULL)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (latch_take(self->latch, (PyObject *)self, NULL) < 0)
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, traceback);
    trale_cell_unref(self->cell);
    Py_CLEAR(self->run_queue);
}

static enum step latch_finish(LatchWait *self, PyObject **result)
{
    if (self->handle == NULL)
        *result = Py_NewRef(Py_None);
    else if (tpy_is_none(self->handle->outcome->error))
        *result = tpy_outcome_value(self->handle->outcome);
    else  /* raises the error, and counts it as taken */
        *result = PyObject_CallMethodObjArgs((PyObject *)self->handle, latch_name_result, NULL);
    return *result == NULL ? FAILED : DONE;
}

static enum step latch_advance(Leaf *leaf, Context *cx, PyObject **result)
{
    LatchWait *self = (LatchWait *)leaf;
    if (self->latch->opened)
        return latch_finish(self, result);
    if (self->run_queue == NULL && latch_store(self->latch, (PyObject *)self, NULL) < 0)
        return FAILED;
    if (self->run_queue != NULL) {
        trale_cell_unref(self->cell);
        DECREF(self->run_queue);
    }
    self->run_queue = NEWREF(RunQueue, cx->waker->run_queue);
    self->cell = cx->waker->cell;
    trale_cell_ref(self->cell);
    return WAIT;
}

/* See Latch.delivers and Outcome.delivers. */
static bool latch_delivered(Leaf *leaf)
{
    Latch *latch = ((LatchWait *)leaf)->latch;
    return latch->opened
           && !(PyObject_TypeCheck((PyObject *)latch, tpy_Outcome) && ((Outcome *)latch)->cancelled);
}

static const LeafKind latch_leaf = {.advance = latch_advance, .drop = latch_drop, .delivered = latch_delivered};

static LatchWait *latch_new_wait(PyTypeObject *type, Latch *latch, JoinHandle *handle)
{
    LatchWait *self = (LatchWait *)tpy_new_leaf(type, &latch_leaf);
    if (self == NULL)
        return NULL;
    self->latch = NEWREF(Latch, latch);
    self->handle = handle == NULL ? NULL : NEWREF(JoinHandle, handle);
    if (handle != NULL)
        self->leaf.use = HANDED;  /* it is made when the handle is awaited */
    return self;
}

static PyObject *LatchWait_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"latch", NULL};
    PyObject *latch;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:LatchWait", names, tpy_Latch, &latch))
        return NULL;
    return (PyObject *)latch_new_wait(type, (Latch *)latch, NULL);
}

/* There is no clear: a cycle passes through the latch, which has one. */
static int LatchWait_traverse(LatchWait *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->latch);
    Py_VISIT(self->handle);
    return 0;
}

static void LatchWait_dealloc(LatchWait *self)
{
    if (tpy_leaf_stays(self))
        return;
    PyObject_GC_UnTrack(self);
    latch_drop(&self->leaf);
    XDECREF(self->latch);
    XDECREF(self->handle);
    tpy_free_object(self);
}

static PyObject *LatchWait_repr(LatchWait *self)
{
    return PyUnicode_FromFormat("<wait of %R>", self->latch);
}

static PyType_Slot LatchWait_slots[] = {
    {Py_tp_new, LatchWait_new},
    {Py_tp_traverse, LatchWait_traverse},
    {Py_tp_dealloc, LatchWait_dealloc},
    {Py_tp_repr, LatchWait_repr},
    TPY_LEAF_SLOTS,
    {0, NULL},
};

static PyType_Spec LatchWait_spec = {
    .name = "trale_py._native.LatchWait",
    .basicsize = sizeof(LatchWait),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = LatchWait_slots,
};

PyObject *tpy_new_latch_wait(JoinHandle *handle)
{
    return (PyObject *)latch_new_wait(LatchWait_type, &handle->outcome->latch, handle);
}

int tpy_add_latch_wait(PyObject *module, PyObject *base)
{
    LatchWait_type = tpy_add_type(module, &LatchWait_spec, base);
    return LatchWait_type == NULL ? -1 : 0;
}

int tpy_add_latch(PyObject *module)
{
    return (tpy_Latch = tpy_add_type(module, &Latch_spec, NULL)) == NULL ? -1 : 0;
}

static const tpy_use latch_uses[] = {
    {TPY_USE_NAME, "JoinHandle", "result", .place = &latch_name_result},
    {0},
};

const tpy_uses tpy_latch_uses = {"latch.c", .after = "JoinHandle", .table = latch_uses};
