/* SemaphoreCore, and ReadyNow, which an async with awaits if it need not wait: see sync/semaphore_core.py. */

#include "waiters_core.h"

PyTypeObject *tpy_ReadyNow;
PyObject *tpy_at_once_none;

/* ---- ReadyNow: to be awaited, when there is nothing to wait for -------------------------------------- */

static PySendResult ReadyNow_send(ReadyNow *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    *result = self->result != NULL ? self->result : Py_NewRef(Py_None);
    self->result = NULL;
    return PYGEN_RETURN;
}

static PyObject *ReadyNow_next(ReadyNow *self)
{
    if (self->result != NULL) {
        PyErr_SetObject(PyExc_StopIteration, self->result);
        tpy_replace(&self->result, NULL);
    }
    return NULL;
}

static void ReadyNow_dealloc(ReadyNow *self)
{
    XDECREF(self->result);
    tpy_free_object(self);
}

static PyType_Slot ReadyNow_slots[] = {
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, ReadyNow_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, ReadyNow_send},
    {Py_tp_dealloc, ReadyNow_dealloc},
    {0, NULL},
};

static PyType_Spec ReadyNow_spec = {
    .name = "trale_py._native.ReadyNow",
    .basicsize = sizeof(ReadyNow),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = ReadyNow_slots,
};

/* ---- SemaphoreCore ---------------------------------------------------------------------------------------- */

static PyObject *SemaphoreCore_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                             PyObject *Py_UNUSED(kwargs))
{
    return (PyObject *)tpy_new_core(type);
}

static int SemaphoreCore_init(WaitersCore *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"count", NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, "n:SemaphoreCore", names, &self->count) ? 0 : -1;
}

static PyObject *SemaphoreCore_acquire(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    return (PyObject *)tpy_new_waiter(self);
}

static PyObject *SemaphoreCore_try_acquire(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    if (self->count <= 0)
        Py_RETURN_FALSE;
    self->count--;
    Py_RETURN_TRUE;
}

PyObject *tpy_parse_timeout(PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    return PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &timeout) ? timeout : NULL;
}

static PyObject *SemaphoreCore_acquire_blocking(WaitersCore *self, PyObject *args, PyObject *kwargs)
{
    PyObject *timeout = tpy_parse_timeout(args, kwargs);
    return timeout == NULL ? NULL : tpy_block(tpy_new_waiter(self), timeout);
}

/* A thread's with. Nothing that it has taken can be lost to a Ctrl-C (R28): here is no Python code,
 * and Python looks for signals neither as __enter__ returns nor before it calls __exit__. */
static PyObject *SemaphoreCore_enter(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    return tpy_block(tpy_new_waiter(self), Py_None);
}

static PyObject *SemaphoreCore_exit(WaitersCore *self, PyObject *const *Py_UNUSED(args),
                              Py_ssize_t Py_UNUSED(count))
{
    tpy_put(self, NULL, 0);
    Py_RETURN_NONE;
}

static PyObject *SemaphoreCore_release(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    tpy_put(self, NULL, 0);
    Py_RETURN_NONE;
}

Context *tpy_take_at_once(WaitersCore *self)
{
    Context *cx = tpy_polling();
    if (cx == NULL || cx->budget <= 0 || cx->cancelled || self->count <= 0)
        return NULL;
    cx->budget--;
    self->count--;
    return cx;
}

static PyObject *SemaphoreCore_aenter(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    return tpy_take_at_once(self) != NULL ? Py_NewRef(tpy_at_once_none) : (PyObject *)tpy_new_waiter(self);
}

static PyObject *SemaphoreCore_aexit(WaitersCore *self, PyObject *const *Py_UNUSED(args),
                               Py_ssize_t Py_UNUSED(count))
{
    tpy_put(self, NULL, 0);
    return Py_NewRef(tpy_at_once_none);
}

static PyMethodDef SemaphoreCore_methods[] = {
    {"acquire", (PyCFunction)SemaphoreCore_acquire, METH_NOARGS, NULL},
    {"try_acquire", (PyCFunction)SemaphoreCore_try_acquire, METH_NOARGS, NULL},
    {"release", (PyCFunction)SemaphoreCore_release, METH_NOARGS, NULL},
    {"acquire_blocking", (PyCFunction)(void (*)(void))SemaphoreCore_acquire_blocking,
     METH_VARARGS | METH_KEYWORDS, NULL},
    {"__enter__", (PyCFunction)SemaphoreCore_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))SemaphoreCore_exit, METH_FASTCALL, NULL},
    {"__aenter__", (PyCFunction)SemaphoreCore_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))SemaphoreCore_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef SemaphoreCore_members[] = {
    {"_count", T_PYSSIZET, offsetof(WaitersCore, count), READONLY, NULL},
    {"_waiters", T_OBJECT, offsetof(WaitersCore, takers), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot SemaphoreCore_slots[] = {
    {Py_tp_new, SemaphoreCore_new},
    {Py_tp_init, SemaphoreCore_init},
    TPY_CORE_SLOTS,
    {Py_tp_methods, SemaphoreCore_methods},
    {Py_tp_members, SemaphoreCore_members},
    {0, NULL},
};

static PyType_Spec SemaphoreCore_spec = {
    .name = "trale_py._native.SemaphoreCore",
    .basicsize = sizeof(WaitersCore),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = SemaphoreCore_slots,
};

int tpy_add_semaphore_core(PyObject *module)
{
    if ((tpy_ReadyNow = tpy_add_type(module, &ReadyNow_spec, NULL)) == NULL
        || (tpy_at_once_none = PyType_GenericAlloc(tpy_ReadyNow, 0)) == NULL
        || tpy_add_type(module, &SemaphoreCore_spec, NULL) == NULL)
        return -1;
    return 0;
}
