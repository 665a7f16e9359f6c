/* QueueCore: see channel/queue_core.py. */

#include "registry.h"
#include "waiters_core.h"

static PyObject *queue_core_Closed, *queue_core_NOTHING, *queue_core_deque;  /* the package's, and the library's */

enum step tpy_raise_closed(PyObject *value)
{
    PyObject *error = PyObject_CallFunctionObjArgs(queue_core_Closed, value, NULL);
    if (error != NULL)
        PyErr_SetObject(queue_core_Closed, error);
    XDECREF(error);
    return FAILED;
}

static PyObject *QueueCore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"capacity", NULL};
    Py_ssize_t capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:QueueCore", names, &capacity))
        return NULL;
    WaitersCore *self = tpy_new_core(type);
    if (self == NULL)
        return NULL;
    self->capacity = capacity;
    if ((self->givers = tpy_new_waiters()) == NULL
        || (self->values = PyObject_CallNoArgs(queue_core_deque)) == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *QueueCore_recv(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)tpy_new_waiter(self);
}

static PyObject *QueueCore_send(WaitersCore *self, PyObject *value)
{
    Waiter *wait = tpy_new_waiter(self);
    if (wait != NULL) {
        wait->gives = 1;
        wait->value = Py_NewRef(value);
    }
    return (PyObject *)wait;
}

static PyObject *QueueCore_try_send(WaitersCore *self, PyObject *value)
{
    if (self->closed) {
        tpy_raise_closed(value);
        return NULL;
    }
    if (!tpy_has_room(self))
        Py_RETURN_FALSE;
    return tpy_put(self, Py_NewRef(value), 0) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *QueueCore_try_recv(WaitersCore *self, PyObject *Py_UNUSED(ignored))
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
        return Py_NewRef(queue_core_NOTHING);
    value = Py_NewRef(giver->value);  /* out of its hands */
    tpy_grant(giver, NULL);
    tpy_wake_wait(giver);
    return value;
}

static PyObject *QueueCore_close(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    tpy_close_core(self);
    Py_RETURN_NONE;
}

static PyObject *QueueCore_send_last(WaitersCore *self, PyObject *value)
{
    if (self->closed)
        Py_RETURN_FALSE;
    if (tpy_put(self, Py_NewRef(value), 0) < 0)
        return NULL;
    tpy_close_core(self);
    Py_RETURN_TRUE;
}

static PyObject *QueueCore_repr(WaitersCore *self)
{
    return PyUnicode_FromFormat("<channel values=%zd>", self->count);
}

static PyMethodDef QueueCore_methods[] = {
    {"send", (PyCFunction)QueueCore_send, METH_O, NULL},
    {"recv", (PyCFunction)QueueCore_recv, METH_NOARGS, NULL},
    {"try_send", (PyCFunction)QueueCore_try_send, METH_O, NULL},
    {"try_recv", (PyCFunction)QueueCore_try_recv, METH_NOARGS, NULL},
    {"send_last", (PyCFunction)QueueCore_send_last, METH_O, NULL},
    {"close", (PyCFunction)QueueCore_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef QueueCore_members[] = {
    {"capacity", T_PYSSIZET, offsetof(WaitersCore, capacity), READONLY, NULL},
    {"slots", T_PYSSIZET, offsetof(WaitersCore, slots), READONLY, NULL},
    {"closed", T_BOOL, offsetof(WaitersCore, closed), READONLY, NULL},
    {"buffer", T_OBJECT, offsetof(WaitersCore, values), READONLY, NULL},
    {"receivers", T_OBJECT, offsetof(WaitersCore, takers), READONLY, NULL},
    {"senders", T_OBJECT, offsetof(WaitersCore, givers), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot QueueCore_slots[] = {
    {Py_tp_new, QueueCore_new},
    TPY_CORE_SLOTS,
    {Py_tp_repr, QueueCore_repr},
    {Py_tp_methods, QueueCore_methods},
    {Py_tp_members, QueueCore_members},
    {0, NULL},
};

static PyType_Spec QueueCore_spec = {
    .name = "trale_py._native.QueueCore",
    .basicsize = sizeof(WaitersCore),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = QueueCore_slots,
};

static const tpy_use queue_core_uses[] = {
    {TPY_USE_OBJECT, "trale_py.channel.closed", "Closed", .place = &queue_core_Closed},
    {TPY_USE_OBJECT, "trale_py.sync.waiters", "NOTHING", .place = &queue_core_NOTHING},
    {TPY_USE_OBJECT, "collections", "deque", .place = &queue_core_deque},
    {0},
};

const tpy_uses tpy_queue_core_uses = {"queue_core.c", .after = "QueueCore", .table = queue_core_uses};

int tpy_add_queue_core(PyObject *module)
{
    return tpy_add_type(module, &QueueCore_spec, NULL) == NULL ? -1 : 0;
}
