/* SleepWait: what sleep() returns. See timer.py. */

#include "leaf.h"

typedef struct {
    Leaf leaf;
    RunQueue *run_queue;  /* of the executor that polls it; NULL while no timer is set */
    trale_timer timer;
    long long deadline;
} SleepWait;

static void sleep_wait_drop(Leaf *leaf)
{
    SleepWait *self = (SleepWait *)leaf;
    if (self->run_queue == NULL)
        return;
    trale_cell *cell = self->timer.cell;
    if (trale_clear_timer(self->run_queue->engine, &self->timer))
        trale_cell_unref(cell);
    Py_CLEAR(self->run_queue);
}

static enum step sleep_wait_advance(Leaf *leaf, Context *cx, PyObject **result)
{
    SleepWait *self = (SleepWait *)leaf;
    if (trale_time(cx->waker->run_queue->engine) >= self->deadline) {
        *result = Py_NewRef(Py_None);
        return DONE;
    }
    sleep_wait_drop(leaf);
    self->run_queue = NEWREF(RunQueue, cx->waker->run_queue);
    if (trale_set_timer(self->run_queue->engine, &self->timer, self->deadline, cx->waker->cell) != 0) {
        PyErr_NoMemory();
        return FAILED;
    }
    return WAIT;
}

static const LeafKind sleep_wait_leaf = {.advance = sleep_wait_advance, .drop = sleep_wait_drop};

static PyObject *SleepWait_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"deadline", NULL};
    long long deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L:SleepWait", names, &deadline))
        return NULL;
    SleepWait *self = (SleepWait *)tpy_new_leaf(type, &sleep_wait_leaf);
    if (self != NULL) {
        PyObject_GC_UnTrack(self);  /* there is nothing in it that could refer to it */
        self->deadline = deadline;
    }
    return (PyObject *)self;
}

static void SleepWait_dealloc(SleepWait *self)
{
    if (tpy_leaf_stays(self))
        return;
    sleep_wait_drop(&self->leaf);
    tpy_free_object(self);
}

static PyObject *SleepWait_repr(SleepWait *self)
{
    long long left = self->deadline - (self->run_queue == NULL ? tpy_now() : trale_time(self->run_queue->engine));
    if (self->deadline == TRALE_NEVER)
        return PyUnicode_FromString("<sleep for ever>");
    left = left < 0 ? 0 : left / 1000000;
    return PyUnicode_FromFormat("<sleep, %lld.%03lld s left>", left / 1000, left % 1000);
}

static PyType_Slot SleepWait_slots[] = {
    {Py_tp_new, SleepWait_new},
    {Py_tp_dealloc, SleepWait_dealloc},
    TPY_LEAF_SLOTS,
    {Py_tp_repr, SleepWait_repr},
    {0, NULL},
};

static PyType_Spec SleepWait_spec = {
    .name = "trale_py._native.SleepWait",
    .basicsize = sizeof(SleepWait),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = SleepWait_slots,
};

int tpy_add_sleep_wait(PyObject *module, PyObject *base)
{
    return tpy_add_type(module, &SleepWait_spec, base) == NULL ? -1 : 0;
}
