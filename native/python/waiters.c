/* Waiters, and Waiter, which stands in one: see sync/waiters.py. What is granted to it: waiters_core.c. */

#include "registry.h"
#include "waiters_core.h"

static PyTypeObject *Waiters_type, *Waiter_type;
static PyObject *waiters_park, *waiters_python_block;  /* the package's */

/* ---- lines ------------------------------------------------------------------------------------ */

Waiter *tpy_first(Waiters *line)
{
    Link *link = line->ring.next;
    return link == &line->ring ? NULL : (Waiter *)((char *)link - offsetof(Waiter, link));
}

static Waiters *waiters_line_of(Waiter *self)
{
    return self->gives ? self->core->givers : self->core->takers;
}

/* At its end, or at its front if it had its turn already. */
void tpy_enter_line(Waiter *self, int in_front)
{
    Link *ring = &waiters_line_of(self)->ring, *next = in_front ? ring->next : ring, *link = &self->link;
    link->next = next;
    link->prev = next->prev;
    link->prev->next = next->prev = link;
    waiters_line_of(self)->length++;
}

void tpy_leave_line(Waiter *self)
{
    Link *link = &self->link;
    if (link->next == NULL)
        return;
    link->next->prev = link->prev;
    link->prev->next = link->next;
    link->next = link->prev = NULL;
    waiters_line_of(self)->length--;
}

static Py_ssize_t Waiters_length(Waiters *self)
{
    return self->length;
}

Waiters *tpy_new_waiters(void)
{
    Waiters *self = (Waiters *)PyType_GenericAlloc(Waiters_type, 0);
    if (self != NULL)
        self->ring.next = self->ring.prev = &self->ring;
    return self;
}

/* ---- Waiter: a leaf, or what a thread waits by -------------------------------------------------------- */

static PyObject *waiters_take_result(Waiter *self)
{
    if (self->state != GRANTED)
        Py_RETURN_NONE;
    self->state = TRYING;
    if (self->guard != NULL) {
        if (self->enters)
            tpy_replace(&self->core->entered, Py_NewRef((PyObject *)self->guard));
        return Py_NewRef((PyObject *)self->guard);
    }
    if (self->gives || self->value == NULL)
        Py_RETURN_NONE;
    PyObject *value = self->value;
    self->value = NULL;
    return value;
}

static enum step waiters_advance(Leaf *leaf, Context *cx, PyObject **result)
{
    Waiter *self = (Waiter *)leaf;
    if (self->guard != NULL)
        tpy_replace(&self->owner, Py_NewRef((PyObject *)cx));
    enum step now = tpy_look(self, (PyObject *)cx->waker);
    if (now == DONE)
        *result = waiters_take_result(self);
    return now;
}

static void waiters_drop(Leaf *leaf)
{
    Waiter *self = (Waiter *)leaf;
    enum state was = self->state;
    tpy_leave_line(self);
    self->state = TRYING;
    if (self->gives) {
        self->core->slots -= was == TURN;
        tpy_grant_slots(self->core);
    } else if (was == GRANTED) {
        PyObject *value = self->value;
        self->value = NULL;
        if (self->guard != NULL)
            tpy_unlock(self->guard);
        else if (self->core->values == NULL)
            tpy_put_permits(self->core, self->n);
        else if (tpy_put(self->core, value, 1) < 0)
            PyErr_WriteUnraisable((PyObject *)self->core);
    } else if (self->core->count > 0 && self->core->values == NULL) {
        tpy_put_permits(self->core, 0);  /* it stood before others, and waited for more than they */
    }
    tpy_replace(&self->wake, NULL);
}

/* A value that was taken out of a giver's hands does not come back. All else is given back. */
static bool waiters_delivered(Leaf *leaf)
{
    Waiter *self = (Waiter *)leaf;
    if (self->gives && self->state == GRANTED)
        return true;
    tpy_leave_line(self);
    return false;
}

static const LeafKind waiters_leaf = {
    .advance = waiters_advance, .drop = waiters_drop, .delivered = waiters_delivered,
};

Waiter *tpy_new_waiter(WaitersCore *core)
{
    Waiter *self = tpy_new_object(Waiter_type);
    if (self != NULL) {
        self->leaf.kind = &waiters_leaf;
        self->n = 1;
        self->core = NEWREF(WaitersCore, core);
    }
    return self;
}

static PyObject *Waiter_look_or_park(Waiter *self, PyObject *parked)
{
    enum step now = tpy_look(self, parked);
    return now == FAILED ? NULL : PyBool_FromLong(now == DONE);
}

/* It stands in line, or was granted what it has not taken. */
static void waiters_drop_unused(Waiter *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    waiters_drop(&self->leaf);
    PyErr_Restore(type, value, traceback);
}

/* DONE or FAILED. Most of these waits need not wait, and then none of park() is needed. */
static enum step waiters_park_thread(Waiter *wait, PyObject *timeout)
{
    if (timeout == Py_None && tpy_thread_runtime() == NULL && wait->state == TRYING) {
        enum step now = tpy_try(wait);
        if (now != WAIT)
            return now;
    }
    PyObject *parked = PyObject_CallFunctionObjArgs(waiters_park, wait, timeout, NULL);
    XDECREF(parked);
    return parked == NULL ? FAILED : DONE;
}

PyObject *tpy_block(Waiter *wait, PyObject *timeout)
{
    if (wait == NULL || tpy_leaf_use(&wait->leaf) < 0) {
        XDECREF(wait);
        return NULL;
    }
    PyObject *result =
        waiters_park_thread(wait, timeout) == FAILED ? NULL : waiters_take_result(wait);
    if (result == NULL) {
        waiters_drop_unused(wait);  /* R28: it may have been granted before a Ctrl-C */
    }
    DECREF(wait);
    return result;
}

PyObject *tpy_block_function(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords)
{
    if (count == 2 && keywords == NULL && Py_TYPE(args[0]) == Waiter_type)
        return tpy_block(NEWREF(Waiter, args[0]), args[1]);
    return tpy_call_python(waiters_python_block, NULL, args, count, keywords);
}

static PyObject *Waiter_get_result(Waiter *self, void *Py_UNUSED(closure))
{
    return waiters_take_result(self);
}

/* There is no clear: a cycle passes through objects that have one. */
static int Waiter_traverse(Waiter *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->core);
    Py_VISIT(self->value);
    Py_VISIT(self->guard);
    return 0;
}

static void Waiter_dealloc(Waiter *self)
{
    if (tpy_leaf_stays(self))
        return;
    PyObject_GC_UnTrack(self);
    if (self->link.next != NULL || self->state != TRYING)
        waiters_drop_unused(self);
    XDECREF(self->wake);
    XDECREF(self->value);
    XDECREF(self->guard);
    XDECREF(self->owner);
    XDECREF(self->core);
    tpy_free_object(self);
}

/* ---- the types -------------------------------------------------------------------------------------- */

static PyType_Slot Waiters_slots[] = {
    {Py_sq_length, Waiters_length},
    {Py_tp_dealloc, tpy_free_object},
    {0, NULL},
};

static PyType_Spec Waiters_spec = {
    .name = "trale_py._native.Waiters",
    .basicsize = sizeof(Waiters),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Waiters_slots,
};

static PyMethodDef Waiter_methods[] = {
    {"_look_or_park", (PyCFunction)Waiter_look_or_park, METH_O, NULL},
    TPY_LEAF_METHODS,
    {NULL, NULL, 0, NULL},
};

static PyObject *Waiter_repr(Waiter *self)
{
    const char *name = self->guard != NULL ? "lock" : self->gives ? "send"
                       : self->core->values != NULL ? "recv" : "acquire";
    return PyUnicode_FromFormat("<%s of %R>", name, self->core);
}

static PyGetSetDef Waiter_getset[] = {
    {"_result", (getter)Waiter_get_result, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Waiter_slots[] = {
    {Py_tp_traverse, Waiter_traverse},
    {Py_tp_dealloc, Waiter_dealloc},
    {Py_tp_repr, Waiter_repr},
    {Py_tp_methods, Waiter_methods},
    {Py_tp_getset, Waiter_getset},
    TPY_LEAF_PROTOCOL,
    {0, NULL},
};

static PyType_Spec Waiter_spec = {
    .name = "trale_py._native.Waiter",
    .basicsize = sizeof(Waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = Waiter_slots,
};

int tpy_add_waiter(PyObject *module, PyObject *base)
{
    return (Waiter_type = tpy_add_type(module, &Waiter_spec, base)) == NULL ? -1 : 0;
}

int tpy_add_waiters(PyObject *module)
{
    return (Waiters_type = tpy_add_type(module, &Waiters_spec, NULL)) == NULL ? -1 : 0;
}

static const tpy_use waiters_uses[] = {
    {TPY_USE_OBJECT, "trale_py.sync.waiters", "park", .place = &waiters_park},
    {TPY_USE_OBJECT, "block", NULL, .place = &waiters_python_block},
    {0},
};

const tpy_uses tpy_waiters_uses = {"waiters.c", .after = "SemaphoreCore", .table = waiters_uses};
