/* Sleep: what sleep() returns. See Timer in timer.py, of which it is the part that is used most. */

#include "leaf.h"

typedef struct {
    Leaf leaf;
    RunQueue *run_queue;  /* of the executor that polls it; NULL while no timer is set */
    trale_timer timer;
    long long deadline;
} Sleep;

static void drop(Leaf *leaf)
{
    Sleep *self = (Sleep *)leaf;
    if (self->run_queue == NULL)
        return;
    trale_cell *cell = self->timer.cell;
    if (trale_clear_timer(self->run_queue->engine, &self->timer))
        trale_cell_unref(cell);
    Py_CLEAR(self->run_queue);
}

static enum step advance(Leaf *leaf, Context *cx, PyObject **result)
{
    Sleep *self = (Sleep *)leaf;
    if (trale_now() >= self->deadline) {
        *result = Py_NewRef(Py_None);
        return DONE;
    }
    drop(leaf);
    self->run_queue = NEWREF(RunQueue, cx->waker->run_queue);
    if (trale_set_timer(self->run_queue->engine, &self->timer, self->deadline, cx->waker->cell) != 0) {
        PyErr_NoMemory();
        return FAILED;
    }
    return WAIT;
}

static const LeafKind leaf_kind = {.advance = advance, .drop = drop};

static PyObject *Sleep_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"deadline", NULL};
    long long deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L:Sleep", names, &deadline))
        return NULL;
    Sleep *self = (Sleep *)trale_new_leaf(type, &leaf_kind);
    if (self != NULL) {
        PyObject_GC_UnTrack(self);  /* there is nothing in it that could refer to it */
        self->deadline = deadline;
    }
    return (PyObject *)self;
}

static void Sleep_dealloc(Sleep *self)
{
    drop(&self->leaf);
    trale_free_object(self);
}

static PyObject *Sleep_repr(Sleep *self)
{
    if (self->deadline == TRALE_NEVER)
        return PyUnicode_FromString("<Sleep for ever>");
    return PyUnicode_FromFormat("<Sleep for %lld us>", (self->deadline - trale_now()) / 1000);
}

static PyType_Slot Sleep_slots[] = {
    {Py_tp_new, Sleep_new},
    {Py_tp_dealloc, Sleep_dealloc},
    TRALE_LEAF_SLOTS,
    {Py_tp_repr, Sleep_repr},
    {0, NULL},
};

static PyType_Spec Sleep_spec = {
    .name = "trale_py._native.Sleep",
    .basicsize = sizeof(Sleep),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Sleep_slots,
};

int trale_set_up_sleep(PyObject *module, PyObject *base)
{
    return trale_add_type(module, &Sleep_spec, base) == NULL ? -1 : 0;
}
