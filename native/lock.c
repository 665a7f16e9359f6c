/* Lock and Hold: see sync/cores.py. */

#include "registry.h"
#include "store.h"

static PyTypeObject *Hold_type, *Lock_type;
static PyObject *lock_name_dropped;
static PyObject *lock_this_thread;  /* the package's */

/* ---- Hold ------------------------------------------------------------------------------------------ */

static PyObject *Hold_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"mutex", NULL};
    PyObject *mutex;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Hold", names, Lock_type, &mutex))
        return NULL;
    Hold *self = (Hold *)PyType_GenericAlloc(type, 0);
    if (self != NULL)
        self->mutex = NEWREF(Store, mutex);
    return (PyObject *)self;
}

static Waiter *lock_wait_for(Hold *self)
{
    Waiter *wait = tpy_new_waiter(self->mutex);
    if (wait != NULL)
        wait->hold = NEWREF(Hold, self);
    return wait;
}

static PyObject *Hold_lock(Hold *self, PyObject *who)
{
    Waiter *wait = lock_wait_for(self);
    if (wait != NULL && who != Py_None)
        wait->who = Py_NewRef(who);
    return (PyObject *)wait;
}

static PyObject *Hold_try_lock(Hold *self, PyObject *who)
{
    if (self->mutex->count == 0)
        Py_RETURN_FALSE;
    self->mutex->count = 0;
    self->mutex->owner = Py_NewRef(who);
    self->held = 1;
    Py_RETURN_TRUE;
}

static PyObject *Hold_unlock(Hold *self, PyObject *Py_UNUSED(ignored))
{
    tpy_unlock(self);
    Py_RETURN_NONE;
}

static PyObject *lock_drop_unreleased(Hold *self)
{
    PyObject *level = PyLong_FromLong(2);  /* no frame of __del__ is between */
    PyObject *done = level == NULL ? NULL
                     : PyObject_CallMethodObjArgs((PyObject *)self, lock_name_dropped, level, NULL);
    XDECREF(level);
    return done;
}

static void Hold_finalize(Hold *self)
{
    if (!self->held)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = lock_drop_unreleased(self);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)self);
    XDECREF(done);
    tpy_unlock(self);
    PyErr_Restore(type, value, traceback);
}

static int Hold_traverse(Hold *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->mutex);
    return 0;
}

static void Hold_dealloc(Hold *self)
{
    PyObject_GC_UnTrack(self);
    XDECREF(self->mutex);
    tpy_free_object(self);
}

static PyMethodDef Hold_methods[] = {
    {"_lock", (PyCFunction)Hold_lock, METH_O, NULL},
    {"_try_lock", (PyCFunction)Hold_try_lock, METH_O, NULL},
    {"_unlock", (PyCFunction)Hold_unlock, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Hold_members[] = {
    {"_mutex", T_OBJECT, offsetof(Hold, mutex), READONLY, NULL},
    {"_held", T_BOOL, offsetof(Hold, held), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Hold_slots[] = {
    {Py_tp_new, Hold_new},
    {Py_tp_finalize, Hold_finalize},
    {Py_tp_traverse, Hold_traverse},
    {Py_tp_dealloc, Hold_dealloc},
    {Py_tp_methods, Hold_methods},
    {Py_tp_members, Hold_members},
    {0, NULL},
};

static PyType_Spec Hold_spec = {
    .name = "trale_py._native.Hold",
    .basicsize = sizeof(Hold),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Hold_slots,
};

/* ---- Lock ------------------------------------------------------------------------------------------ */

static PyObject *Lock_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return (PyObject *)tpy_new_store(type);
}

static int Lock_init(Store *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"make", NULL};
    PyObject *make;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Lock", names, &PyType_Type, &make))
        return -1;
    if (self->make != NULL || !PyType_IsSubtype((PyTypeObject *)make, Hold_type)) {
        PyErr_SetString(PyExc_TypeError, "a LockCore is initialized once, with a class of guards");
        return -1;
    }
    if ((self->at_once = PyType_GenericAlloc(tpy_AtOnce, 0)) == NULL)
        return -1;
    self->make = NEWREF(PyTypeObject, make);
    self->count = 1;
    return 0;
}

static Hold *lock_new_hold(Store *self)
{
    if (self->make == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "__init__() has not been called");
        return NULL;
    }
    Hold *hold = (Hold *)PyType_GenericAlloc(self->make, 0);
    if (hold != NULL)
        hold->mutex = NEWREF(Store, self);
    return hold;
}

static PyObject *Lock_lock(Store *self, PyObject *Py_UNUSED(ignored))
{
    Hold *hold = lock_new_hold(self);
    Waiter *wait = hold == NULL ? NULL : lock_wait_for(hold);
    XDECREF(hold);
    return (PyObject *)wait;
}

static PyObject *Lock_aenter(Store *self, PyObject *Py_UNUSED(ignored))
{
    Hold *hold = lock_new_hold(self);
    if (hold == NULL)
        return NULL;
    Context *cx = tpy_take_at_once(self);
    if (cx != NULL) {
        hold->held = 1;
        self->owner = Py_NewRef((PyObject *)cx);
        tpy_replace(&self->entered, Py_NewRef((PyObject *)hold));
        tpy_replace(&((AtOnce *)self->at_once)->result, (PyObject *)hold);
        return Py_NewRef(self->at_once);
    }
    Waiter *wait = lock_wait_for(hold);
    DECREF(hold);
    if (wait != NULL)
        wait->enters = 1;
    return (PyObject *)wait;
}

static void lock_leave(Store *self)
{
    PyObject *hold = self->entered;
    self->entered = NULL;
    if (hold != NULL && PyObject_TypeCheck(hold, Hold_type))  /* None: see cores.py */
        tpy_unlock((Hold *)hold);
    XDECREF(hold);
}

static Waiter *lock_wait_in_thread(Store *self)
{
    PyObject *me = PyObject_CallNoArgs(lock_this_thread);
    Hold *hold = me == NULL ? NULL : lock_new_hold(self);
    Waiter *wait = hold == NULL ? NULL : lock_wait_for(hold);
    XDECREF(hold);
    if (wait == NULL)
        XDECREF(me);
    else
        wait->who = me;
    return wait;
}

static PyObject *Lock_lock_blocking(Store *self, PyObject *args, PyObject *kwargs)
{
    PyObject *timeout = tpy_parse_timeout(args, kwargs);
    return timeout == NULL ? NULL : tpy_block(lock_wait_in_thread(self), timeout);
}

static PyObject *Lock_enter(Store *self, PyObject *Py_UNUSED(ignored))
{
    Waiter *wait = lock_wait_in_thread(self);
    if (wait != NULL)
        wait->enters = 1;
    return tpy_block(wait, Py_None);
}

static PyObject *Lock_exit(Store *self, PyObject *const *Py_UNUSED(args),
                           Py_ssize_t Py_UNUSED(count))
{
    lock_leave(self);
    Py_RETURN_NONE;
}

static PyObject *Lock_leave(Store *self, PyObject *Py_UNUSED(ignored))
{
    lock_leave(self);
    Py_RETURN_NONE;
}

static PyObject *Lock_aexit(Store *self, PyObject *const *Py_UNUSED(args),
                            Py_ssize_t Py_UNUSED(count))
{
    lock_leave(self);
    return Py_NewRef(tpy_at_once_none);
}

static PyMethodDef Lock_methods[] = {
    {"lock", (PyCFunction)Lock_lock, METH_NOARGS, NULL},
    {"lock_blocking", (PyCFunction)(void (*)(void))Lock_lock_blocking, METH_VARARGS | METH_KEYWORDS,
     NULL},
    {"_leave", (PyCFunction)Lock_leave, METH_NOARGS, NULL},
    {"__enter__", (PyCFunction)Lock_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))Lock_exit, METH_FASTCALL, NULL},
    {"__aenter__", (PyCFunction)Lock_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))Lock_aexit, METH_FASTCALL, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Lock_members[] = {
    {"_waiters", T_OBJECT, offsetof(Store, takers), READONLY, NULL},
    {"_owner", T_OBJECT, offsetof(Store, owner), READONLY, NULL},
    {"_entered", T_OBJECT, offsetof(Store, entered), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Lock_slots[] = {
    {Py_tp_new, Lock_new},
    {Py_tp_init, Lock_init},
    TPY_STORE_SLOTS,
    {Py_tp_methods, Lock_methods},
    {Py_tp_members, Lock_members},
    {0, NULL},
};

static PyType_Spec Lock_spec = {
    .name = "trale_py._native.Lock",
    .basicsize = sizeof(Store),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Lock_slots,
};

static const tpy_use lock_uses[] = {
    {TPY_USE_NAME, "Hold", "_dropped", .place = &lock_name_dropped},
    {TPY_USE_OBJECT, "trale_py.sync.waiters", "this_thread", .place = &lock_this_thread},
    {0},
};

const tpy_uses tpy_lock_uses = {"lock.c", .after = "Hold", .table = lock_uses};

int tpy_add_lock(PyObject *module)
{
    if ((Hold_type = tpy_add_type(module, &Hold_spec, NULL)) == NULL
        || (Lock_type = tpy_add_type(module, &Lock_spec, NULL)) == NULL)
        return -1;
    return 0;
}
