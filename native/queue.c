/* Queue: see channel/core.py. */

#include "registry.h"
#include "store.h"

static PyObject *queue_Closed, *queue_NOTHING, *queue_deque;  /* the package's, and the library's */

enum step tpy_raise_closed(PyObject *value)
{
    PyObject *error = PyObject_CallFunctionObjArgs(queue_Closed, value, NULL);
    if (error != NULL)
        PyErr_SetObject(queue_Closed, error);
    XDECREF(error);
    return FAILED;
}

static PyObject *Queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"capacity", NULL};
    Py_ssize_t capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:Queue", names, &capacity))
        return NULL;
    Store *self = tpy_new_store(type);
    if (self == NULL)
        return NULL;
    self->capacity = capacity;
    if ((self->givers = tpy_new_waiters()) == NULL
        || (self->values = PyObject_CallNoArgs(queue_deque)) == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *Queue_recv(Store *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)tpy_new_waiter(self);
}

static PyObject *Queue_send(Store *self, PyObject *value)
{
    Waiter *wait = tpy_new_waiter(self);
    if (wait != NULL) {
        wait->gives = 1;
        wait->value = Py_NewRef(value);
    }
    return (PyObject *)wait;
}

static PyObject *Queue_try_send(Store *self, PyObject *value)
{
    if (self->closed) {
        tpy_raise_closed(value);
        return NULL;
    }
    if (!tpy_has_room(self))
        Py_RETURN_FALSE;
    return tpy_put(self, Py_NewRef(value), 0) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *Queue_try_recv(Store *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *value = NULL;
    Waiter *giver = tpy_first(self->givers);
    if (self->count > 0) {
        if (tpy_take_out(self, &value) == 0)
            tpy_grant_slots(self);
        return value;
    }
    if (self->closed) {
        tpy_raise_closed(NULL);
        return NULL;
    }
    if (self->capacity > 0 || giver == NULL)
        return Py_NewRef(queue_NOTHING);
    value = Py_NewRef(giver->value);  /* out of its hands */
    tpy_grant(giver, NULL);
    tpy_wake_wait(giver);
    return value;
}

static PyObject *Queue_close(Store *self, PyObject *Py_UNUSED(ignored))
{
    tpy_close_store(self);
    Py_RETURN_NONE;
}

static PyObject *Queue_send_last(Store *self, PyObject *value)
{
    if (self->closed)
        Py_RETURN_FALSE;
    if (tpy_put(self, Py_NewRef(value), 0) < 0)
        return NULL;
    tpy_close_store(self);
    Py_RETURN_TRUE;
}

static PyObject *Queue_repr(Store *self)
{
    return PyUnicode_FromFormat("<channel values=%zd>", self->count);
}

static PyMethodDef Queue_methods[] = {
    {"send", (PyCFunction)Queue_send, METH_O, NULL},
    {"recv", (PyCFunction)Queue_recv, METH_NOARGS, NULL},
    {"try_send", (PyCFunction)Queue_try_send, METH_O, NULL},
    {"try_recv", (PyCFunction)Queue_try_recv, METH_NOARGS, NULL},
    {"send_last", (PyCFunction)Queue_send_last, METH_O, NULL},
    {"close", (PyCFunction)Queue_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Queue_members[] = {
    {"capacity", T_PYSSIZET, offsetof(Store, capacity), READONLY, NULL},
    {"slots", T_PYSSIZET, offsetof(Store, slots), READONLY, NULL},
    {"closed", T_BOOL, offsetof(Store, closed), READONLY, NULL},
    {"buffer", T_OBJECT, offsetof(Store, values), READONLY, NULL},
    {"receivers", T_OBJECT, offsetof(Store, takers), READONLY, NULL},
    {"senders", T_OBJECT, offsetof(Store, givers), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Queue_slots[] = {
    {Py_tp_new, Queue_new},
    TPY_STORE_SLOTS,
    {Py_tp_repr, Queue_repr},
    {Py_tp_methods, Queue_methods},
    {Py_tp_members, Queue_members},
    {0, NULL},
};

static PyType_Spec Queue_spec = {
    .name = "trale_py._native.Queue",
    .basicsize = sizeof(Store),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = Queue_slots,
};

static const tpy_use queue_uses[] = {
    {TPY_USE_OBJECT, "trale_py.channel.closed", "Closed", .place = &queue_Closed},
    {TPY_USE_OBJECT, "trale_py.sync.waiters", "NOTHING", .place = &queue_NOTHING},
    {TPY_USE_OBJECT, "collections", "deque", .place = &queue_deque},
    {0},
};

const tpy_uses tpy_queue_uses = {"queue.c", .after = "Queue", .table = queue_uses};

int tpy_add_queue(PyObject *module)
{
    return tpy_add_type(module, &Queue_spec, NULL) == NULL ? -1 : 0;
}
