/* The two smallest leaves: see YieldNow and Checkpoint in future.py. */

#include "leaf.h"

typedef struct {
    Leaf leaf;
    char yielded;
} YieldNow;

static enum step yield_now_give_way(Leaf *leaf, Context *cx, PyObject **result)
{
    YieldNow *self = (YieldNow *)leaf;
    if (self->yielded) {
        *result = Py_NewRef(Py_None);
        return DONE;
    }
    self->yielded = 1;
    trale_wake(cx->waker->run_queue->engine, cx->waker->cell);
    return WAIT;
}

static enum step yield_now_pass(Leaf *Py_UNUSED(leaf), Context *Py_UNUSED(cx), PyObject **result)
{
    *result = Py_NewRef(Py_None);
    return DONE;
}

static void yield_now_hold_nothing(Leaf *Py_UNUSED(leaf))
{
}

static const LeafKind yield_now_leaf = {.advance = yield_now_give_way, .drop = yield_now_hold_nothing};
static const LeafKind yield_now_checkpoint_leaf = {.advance = yield_now_pass, .drop = yield_now_hold_nothing};

static PyObject *yield_now_make(PyTypeObject *type, const LeafKind *kind, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "", names))
        return NULL;
    Leaf *self = tpy_new_leaf(type, kind);
    if (self != NULL)
        PyObject_GC_UnTrack(self);
    return (PyObject *)self;
}

static PyObject *YieldNow_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return yield_now_make(type, &yield_now_leaf, args, kwargs);
}

static PyObject *Checkpoint_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return yield_now_make(type, &yield_now_checkpoint_leaf, args, kwargs);
}

static void yield_now_dealloc(Leaf *self)
{
    if (!tpy_leaf_stays(self))
        tpy_free_object(self);
}

static PyObject *YieldNow_repr(PyObject *Py_UNUSED(self))
{
    return PyUnicode_FromString("<yield_now>");
}

static PyObject *Checkpoint_repr(PyObject *Py_UNUSED(self))
{
    return PyUnicode_FromString("<checkpoint>");
}

static PyType_Slot YieldNow_slots[] = {
    {Py_tp_new, YieldNow_new},
    {Py_tp_dealloc, yield_now_dealloc},
    {Py_tp_repr, YieldNow_repr},
    TPY_LEAF_SLOTS,
    {0, NULL},
};

static PyType_Slot Checkpoint_slots[] = {
    {Py_tp_new, Checkpoint_new},
    {Py_tp_dealloc, yield_now_dealloc},
    {Py_tp_repr, Checkpoint_repr},
    TPY_LEAF_SLOTS,
    {0, NULL},
};

static PyType_Spec YieldNow_spec = {
    .name = "trale_py._native.YieldNow",
    .basicsize = sizeof(YieldNow),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = YieldNow_slots,
};

static PyType_Spec Checkpoint_spec = {
    .name = "trale_py._native.Checkpoint",
    .basicsize = sizeof(Leaf),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Checkpoint_slots,
};

int tpy_add_yield_now(PyObject *module, PyObject *base)
{
    return tpy_add_type(module, &YieldNow_spec, base) == NULL
                   || tpy_add_type(module, &Checkpoint_spec, base) == NULL ? -1 : 0;
}
