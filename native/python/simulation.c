/* Simulation: see simulation.py. */

#include "registry.h"
#include "simulation.h"

#include <errno.h>

PyTypeObject *tpy_Simulation;

static const char *const simulation_calls[TRALE_CALLS] = {
    [TRALE_CALL_RECV] = "recv",
    [TRALE_CALL_SEND] = "send",
    [TRALE_CALL_READ] = "read",
    [TRALE_CALL_WRITE] = "write",
    [TRALE_CALL_ACCEPT] = "accept",
    [TRALE_CALL_CONNECT] = "connect",
    [TRALE_CALL_EPOLL_CTL] = "epoll_ctl",
    [TRALE_CALL_EPOLL_WAIT] = "epoll_wait",
    [TRALE_CALL_TIMERFD_SETTIME] = "timerfd_settime",
    [TRALE_CALL_EVENTFD_WRITE] = "eventfd_write",
};
static PyObject *simulation_check;  /* of simulation.py: it says which calls there are */

/* -1 with an exception set. */
static int simulation_call_of(PyObject *name)
{
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
    PyErr_Clear();
    for (int call = 0; text != NULL && call < TRALE_CALLS; call++)
        if (strcmp(text, simulation_calls[call]) == 0)
            return call;
    Py_XDECREF(PyObject_CallFunctionObjArgs(simulation_check, name, NULL));
    return -1;
}

static PyObject *Simulation_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Simulation", names))
        return NULL;
    Simulation *self = (Simulation *)PyType_GenericAlloc(type, 0);
    if (self != NULL && (self->simulation = trale_simulation_new()) == NULL) {
        Py_CLEAR(self);
        PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void Simulation_dealloc(Simulation *self)
{
    if (self->simulation != NULL)
        trale_simulation_free(self->simulation);
    XDECREF(self->on_idle);
    tpy_free_object(self);
}

static PyObject *Simulation_has_clock(Simulation *self, void *Py_UNUSED(closure))
{
    int64_t now;
    return PyBool_FromLong(trale_simulation_now(self->simulation, &now));
}

static PyObject *Simulation_set_now(Simulation *self, PyObject *ns)
{
    long long now = ns == Py_None ? -1 : PyLong_AsLongLong(ns);
    if (now == -1 && PyErr_Occurred())
        return NULL;
    trale_simulation_set_now(self->simulation, now);
    Py_RETURN_NONE;
}

static PyObject *Simulation_now_ns(Simulation *self, PyObject *Py_UNUSED(ignored))
{
    int64_t now = trale_now();
    trale_simulation_now(self->simulation, &now);
    return PyLong_FromLongLong(now);
}

static PyObject *Simulation_seed(Simulation *self, PyObject *number)
{
    uint64_t seed = PyLong_AsUnsignedLongLongMask(number);
    if (seed == UINT64_MAX && PyErr_Occurred())
        return NULL;
    trale_simulation_seed(self->simulation, seed);
    self->seeded = 1;
    Py_RETURN_NONE;
}

static PyObject *Simulation_random(Simulation *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(trale_simulation_random(self->simulation));
}

static PyObject *Simulation_plan(Simulation *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"call", "error", "size", "fd", "after", "times", NULL};
    PyObject *name;
    int error = 0, fd = -1;
    Py_ssize_t size = PY_SSIZE_T_MAX;
    unsigned long long after = 0, times = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$iniKK:plan", names, &name, &error, &size, &fd,
                                     &after, &times))
        return NULL;
    int call = simulation_call_of(name);
    if (call < 0)
        return NULL;
    if (trale_simulation_plan(self->simulation, call, fd, error, (size_t)size, after, times) < 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

int tpy_take_call(trale_simulation *s, enum trale_call call, int fd, Py_ssize_t *size)
{
    size_t limit = (size_t)*size;
    int error;
    do {
        error = trale_simulation_take(s, call, fd, &limit);
    } while (error == -EINTR);
    *size = (Py_ssize_t)limit;
    return error;
}

static PyObject *Simulation_take(Simulation *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"call", "fd", "size", NULL};
    PyObject *name;
    int fd;
    Py_ssize_t size = PY_SSIZE_T_MAX;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Oi|n:take", names, &name, &fd, &size))
        return NULL;
    int call = simulation_call_of(name);
    if (call < 0)
        return NULL;
    int error = tpy_take_call(self->simulation, call, fd, &size);
    return error < 0 ? tpy_raise(error) : PyLong_FromSsize_t(size);
}

static PyObject *Simulation_left(Simulation *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(trale_simulation_left(self->simulation));
}

static PyObject *Simulation_made(Simulation *self, PyObject *name)
{
    int call = simulation_call_of(name);
    return call < 0 ? NULL
                    : PyLong_FromUnsignedLongLong(trale_simulation_made(self->simulation, call));
}

static PyMethodDef Simulation_methods[] = {
    {"set_now", (PyCFunction)Simulation_set_now, METH_O, NULL},
    {"now_ns", (PyCFunction)Simulation_now_ns, METH_NOARGS, NULL},
    {"seed", (PyCFunction)Simulation_seed, METH_O, NULL},
    {"random", (PyCFunction)Simulation_random, METH_NOARGS, NULL},
    {"plan", (PyCFunction)(void (*)(void))Simulation_plan, METH_VARARGS | METH_KEYWORDS, NULL},
    {"take", (PyCFunction)(void (*)(void))Simulation_take, METH_VARARGS | METH_KEYWORDS, NULL},
    {"left", (PyCFunction)Simulation_left, METH_NOARGS, NULL},
    {"made", (PyCFunction)Simulation_made, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Simulation_members[] = {
    {"on_idle", T_OBJECT, offsetof(Simulation, on_idle), 0, NULL},
    {"seeded", T_BOOL, offsetof(Simulation, seeded), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Simulation_getset[] = {
    {"has_clock", (getter)Simulation_has_clock, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Simulation_slots[] = {
    {Py_tp_new, Simulation_new},
    {Py_tp_dealloc, Simulation_dealloc},
    {Py_tp_methods, Simulation_methods},
    {Py_tp_members, Simulation_members},
    {Py_tp_getset, Simulation_getset},
    {0, NULL},
};

static PyType_Spec Simulation_spec = {
    .name = "trale_py._native.Simulation",
    .basicsize = sizeof(Simulation),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Simulation_slots,
};

static const tpy_use simulation_uses[] = {
    {TPY_USE_OBJECT, "trale_py.core.simulation", "_check", .place = &simulation_check},
    {0},
};

const tpy_uses tpy_simulation_uses = {"simulation.c", .after = "RunQueue", .table = simulation_uses};

int tpy_add_simulation(PyObject *module)
{
    return (tpy_Simulation = tpy_add_type(module, &Simulation_spec, NULL)) == NULL ? -1 : 0;
}
