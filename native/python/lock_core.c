/* LockCore and GuardCore: see sync/lock_core.py. */

#include "registry.h"
#include "waiters_core.h"

static PyTypeObject *GuardCore_type, *LockCore_type;
static PyObject *lock_core_name_dropped;
static PyObject *lock_core_this_thread;  /* the package's */

/* ---- GuardCore ------------------------------------------------------------------------------------------ */

static PyObject *GuardCore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mutex", NULL};
    PyObject *mutex;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:GuardCore", names, LockCore_type, &mutex))
        return NULL;
    GuardCore *self = (GuardCore *)PyType_GenericAlloc(type, 0);
    if (self != NULL)
        self->mutex = NEWREF(WaitersCore, mutex);
    return (PyObject *)self;
}

static Waiter *lock_core_wait_for(GuardCore *self)
{
    Waiter *wait = tpy_new_waiter(self->mutex);
    if (wait != NULL)
        wait->guard = NEWREF(GuardCore, self);
    return wait;
}

static PyObject *GuardCore_lock(GuardCore *self, PyObject *owner)
{
    Waiter *wait = lock_core_wait_for(self);
    if (wait != NULL && owner != Py_None)
        wait->owner = Py_NewRef(owner);
    return (PyObject *)wait;
}

static PyObject *GuardCore_try_lock(GuardCore *self, PyObject *owner)
{
    if (self->mutex->count == 0)
        Py_RETURN_FALSE;
    self->mutex->count = 0;
    self->mutex->owner = Py_NewRef(owner);
    self->held = 1;
    Py_RETURN_TRUE;
}

static PyObject *GuardCore_unlock(GuardCore *self, PyObject *Py_UNUSED(ignored))
{
    tpy_unlock(self);
    Py_RETURN_NONE;
}

static PyObject *lock_core_drop_unreleased(GuardCore *self)
{
    PyObject *level = PyLong_FromLong(2);  /* no frame of __del__ is between */
    PyObject *done = level == NULL ? NULL
                     : PyObject_CallMethodObjArgs((PyObject *)self, lock_core_name_dropped, level, NULL);
    XDECREF(level);
    return done;
}

static void GuardCore_finalize(GuardCore *self)
{
    if (!self->held)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = lock_core_drop_unreleased(self);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)self);
    XDECREF(done);
    tpy_unlock(self);
    PyErr_Restore(type, value, traceback);
}

static int GuardCore_traverse(GuardCore *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->mutex);
    return 0;
}

static void GuardCore_dealloc(GuardCore *self)
{
    PyObject_GC_UnTrack(self);
    XDECREF(self->mutex);
    tpy_free_object(self);
}

static PyMethodDef GuardCore_methods[] = {
    {"_lock", (PyCFunction)GuardCore_lock, METH_O, NULL},
    {"_try_lock", (PyCFunction)GuardCore_try_lock, METH_O, NULL},
    {"_unlock", (PyCFunction)GuardCore_unlock, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef GuardCore_members[] = {
    {"_mutex", T_OBJECT, offsetof(GuardCore, mutex), READONLY, NULL},
    {"_held", T_BOOL, offsetof(GuardCore, held), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot GuardCore_slots[] = {
    {Py_tp_new, GuardCore_new},
    {Py_tp_finalize, GuardCore_finalize},
    {Py_tp_traverse, GuardCore_traverse},
    {Py_tp_dealloc, GuardCore_dealloc},
    {Py_tp_methods, GuardCore_methods},
    {Py_tp_members, GuardCore_members},
    {0, NULL},
};

static PyType_Spec GuardCore_spec = {
    .name = "trale_py._native.GuardCore",
    .basicsize = sizeof(GuardCore),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = GuardCore_slots,
};

/* ---- LockCore ------------------------------------------------------------------------------------------ */

static PyObject *LockCore_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return (PyObject *)tpy_new_core(type);
}

static int LockCore_init(WaitersCore *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"make", NULL};
    PyObject *make;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:LockCore", names, &PyType_Type, &make))
        return -1;
    if (self->make != NULL || !PyType_IsSubtype((PyTypeObject *)make, GuardCore_type)) {
        PyErr_SetString(PyExc_TypeError, "a LockCore is initialized once, with a class of guards");
        return -1;
    }
    if ((self->at_once = PyType_GenericAlloc(tpy_ReadyNow, 0)) == NULL)
        return -1;
    self->make = NEWREF(PyTypeObject, make);
    self->count = 1;
    return 0;
}

static GuardCore *lock_core_new_guard(WaitersCore *self)
{
    if (self->make == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "__init__() has not been called");
        return NULL;
    }
    GuardCore *guard = (GuardCore *)PyType_GenericAlloc(self->make, 0);
    if (guard != NULL)
        guard->mutex = NEWREF(WaitersCore, self);
    return guard;
}

static PyObject *LockCore_lock(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    GuardCore *guard = lock_core_new_guard(self);
    Waiter *wait = guard == NULL ? NULL : lock_core_wait_for(guard);
    XDECREF(guard);
    return (PyObject *)wait;
}

static PyObject *LockCore_aenter(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    GuardCore *guard = lock_core_new_guard(self);
    if (guard == NULL)
        return NULL;
    Context *cx = tpy_take_at_once(self);
    if (cx != NULL) {
        guard->held = 1;
        self->owner = Py_NewRef((PyObject *)cx);
        tpy_replace(&self->entered, Py_NewRef((PyObject *)guard));
        tpy_replace(&((ReadyNow *)self->at_once)->result, (PyObject *)guard);
        return Py_NewRef(self->at_once);
    }
    Waiter *wait = lock_core_wait_for(guard);
    DECREF(guard);
    if (wait != NULL)
        wait->enters = 1;
    return (PyObject *)wait;
}

static void lock_core_leave(WaitersCore *self)
{
    PyObject *guard = self->entered;
    self->entered = NULL;
    if (guard != NULL && PyObject_TypeCheck(guard, GuardCore_type))  /* None: see lock_core.py */
        tpy_unlock((GuardCore *)guard);
    XDECREF(guard);
}

static Waiter *lock_core_wait_in_thread(WaitersCore *self)
{
    PyObject *me = PyObject_CallNoArgs(lock_core_this_thread);
    GuardCore *guard = me == NULL ? NULL : lock_core_new_guard(self);
    Waiter *wait = guard == NULL ? NULL : lock_core_wait_for(guard);
    XDECREF(guard);
    if (wait == NULL)
        XDECREF(me);
    else
        wait->owner = me;
    return wait;
}

static PyObject *LockCore_lock_blocking(WaitersCore *self, PyObject *args, PyObject *kwargs)
{
    PyObject *timeout = tpy_parse_timeout(args, kwargs);
    return timeout == NULL ? NULL : tpy_block(lock_core_wait_in_thread(self), timeout);
}

static PyObject *LockCore_enter(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    Waiter *wait = lock_core_wait_in_thread(self);
    if (wait != NULL)
        wait->enters = 1;
    return tpy_block(wait, Py_None);
}

static PyObject *LockCore_exit(WaitersCore *self, PyObject *const *Py_UNUSED(args),
                           Py_ssize_t Py_UNUSED(count))
{
    lock_core_leave(self);
    Py_RETURN_NONE;
}

static PyObject *LockCore_leave(WaitersCore *self, PyObject *Py_UNUSED(ignored))
{
    lock_core_leave(self);
    Py_RETURN_NONE;
}

static PyObject *LockCore_aexit(WaitersCore *self, PyObject *const *Py_UNUSED(args),
                            Py_ssize_t Py_UNUSED(count))
{
    lock_core_leave(self);
    return Py_NewRef(tpy_at_once_none);
}

static PyMethodDef LockCore_methods[] = {
    {"lock", (PyCFunction)LockCore_lock, METH_NOARGS, NULL},
    {"lock_blocking", (PyCFunction)(void (*)(void))LockCore_lock_blocking, METH_VARARGS | METH_KEYWORDS,
     NULL},
    {"_leave", (PyCFunction)LockCore_leave, METH_NOARGS, NULL},
    {"__enter__", (PyCFunction)LockCore_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))LockCore_exit, METH_FASTCALL, NULL},
    {"__aenter__", (PyCFunction)LockCore_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))LockCore_aexit, METH_FASTCALL, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef LockCore_members[] = {
    {"_waiters", T_OBJECT, offsetof(WaitersCore, takers), READONLY, NULL},
    {"_owner", T_OBJECT, offsetof(WaitersCore, owner), READONLY, NULL},
    {"_entered", T_OBJECT, offsetof(WaitersCore, entered), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot LockCore_slots[] = {
    {Py_tp_new, LockCore_new},
    {Py_tp_init, LockCore_init},
    TPY_CORE_SLOTS,
    {Py_tp_methods, LockCore_methods},
    {Py_tp_members, LockCore_members},
    {0, NULL},
};

static PyType_Spec LockCore_spec = {
    .name = "trale_py._native.LockCore",
    .basicsize = sizeof(WaitersCore),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = LockCore_slots,
};

static const tpy_use lock_core_uses[] = {
    {TPY_USE_NAME, "GuardCore", "_dropped", .place = &lock_core_name_dropped},
    {TPY_USE_OBJECT, "trale_py.sync.waiters", "this_thread", .place = &lock_core_this_thread},
    {0},
};

const tpy_uses tpy_lock_core_uses = {"lock_core.c", .after = "GuardCore", .table = lock_core_uses};

int tpy_add_lock_core(PyObject *module)
{
    if ((GuardCore_type = tpy_add_type(module, &GuardCore_spec, NULL)) == NULL
        || (LockCore_type = tpy_add_type(module, &LockCore_spec, NULL)) == NULL)
        return -1;
    return 0;
}
