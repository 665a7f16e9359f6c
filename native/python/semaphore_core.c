/* SemaphoreCore, and ReadyNow, which an async with awaits if it need not wait: see sync/semaphore_core.py. */

#include "registry.h"
#include "waiters_core.h"

static PyObject *semaphore_core_check;  /* the package's */

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
    static char *names[] = {"count", "bound", NULL};
    self->bound = PY_SSIZE_T_MAX;
    return PyArg_ParseTupleAndKeywords(args, kwargs, "n|n:SemaphoreCore", names, &self->count, &self->bound)
               ? 0 : -1;
}

/* How many permits it is about: (n=1). -1: an exception is set. */
static Py_ssize_t semaphore_core_parse(PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    if (count == 0 && keywords == NULL)
        return 1;
    PyObject *checked = tpy_call_python(semaphore_core_check, NULL, args, count, keywords);
    Py_ssize_t n = checked == NULL ? -1 : PyLong_AsSsize_t(checked);
    XDECREF(checked);
    return n;
}

static PyObject *SemaphoreCore_acquire(WaitersCore *self, PyObject *const *args, Py_ssize_t count,
                                       PyObject *keywords)
{
    Py_ssize_t n = semaphore_core_parse(args, count, keywords);
    Waiter *wait = n < 0 ? NULL : tpy_new_waiter(self);
    if (wait != NULL)
        wait->n = n;
    return (PyObject *)wait;
}

static PyObject *SemaphoreCore_try_acquire(WaitersCore *self, PyObject *const *args, Py_ssize_t count,
                                           PyObject *keywords)
{
    Py_ssize_t n = semaphore_core_parse(args, count, keywords);
    if (n < 0)
        return NULL;
    if (self->count < n || tpy_first(self->takers) != NULL)
        Py_RETURN_FALSE;
    self->count -= n;
    Py_RETURN_TRUE;
}

static PyObject *semaphore_core_give(WaitersCore *self, Py_ssize_t n)
{
    if (n > self->bound - self->count)
        return PyErr_Format(PyExc_ValueError, "released more often than acquired: %R", self);
    tpy_put_permits(self, n);
    Py_RETURN_NONE;
}

PyObject *tpy_parse_timeout(PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    return PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &timeout) ? timeout : NULL;
}

static PyObject *SemaphoreCore_acquire_blocking(WaitersCore *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", "n", NULL};
    PyObject *timeout = Py_None, *n = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O", names, &timeout, &n))
        return NULL;
    return tpy_block((Waiter *)SemaphoreCore_acquire(self, &n, n != NULL, NULL), timeout);
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
    return semaphore_core_give(self, 1);
}

static PyObject *SemaphoreCore_release(WaitersCore *self, PyObject *const *args, Py_ssize_t count,
                                       PyObject *keywords)
{
    Py_ssize_t n = semaphore_core_parse(args, count, keywords);
    return n < 0 ? NULL : semaphore_core_give(self, n);
}

Context *tpy_take_at_once(WaitersCore *self)
{
    Context *cx = tpy_polling();
    if (cx == NULL || cx->budget <= 0 || cx->cancelled || self->count <= 0
        || tpy_first(self->takers) != NULL)
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
    PyObject *given = semaphore_core_give(self, 1);
    XDECREF(given);
    return given == NULL ? NULL : Py_NewRef(tpy_at_once_none);
}

static PyMethodDef SemaphoreCore_methods[] = {
    {"acquire", TPY_FAST(SemaphoreCore_acquire), NULL},
    {"try_acquire", TPY_FAST(SemaphoreCore_try_acquire), NULL},
    {"release", TPY_FAST(SemaphoreCore_release), NULL},
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

static const tpy_use semaphore_core_uses[] = {
    {TPY_USE_OBJECT, "trale_py.sync.semaphore_core", "check_permits", .place = &semaphore_core_check},
    {0},
};

const tpy_uses tpy_semaphore_core_uses = {"semaphore_core.c", .after = "SemaphoreCore", .table = semaphore_core_uses};

int tpy_add_semaphore_core(PyObject *module)
{
    if ((tpy_ReadyNow = tpy_add_type(module, &ReadyNow_spec, NULL)) == NULL
        || (tpy_at_once_none = PyType_GenericAlloc(tpy_ReadyNow, 0)) == NULL
        || tpy_add_type(module, &SemaphoreCore_spec, NULL) == NULL)
        return -1;
    return 0;
}
