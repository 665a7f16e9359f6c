/* Latch, LatchWait, Outcome, JoinHandle: see latch.py, outcome.py, join.py. */

#include "leaf.h"
#include "registry.h"
#include "task.h"

PyTypeObject *trale_Latch, *trale_Outcome, *trale_JoinHandle;
static PyTypeObject *LatchWait_type;
static PyObject *name_result, *name_check_awaitable;
static PyObject *python_join, *python_del;  /* the Python versions */

typedef struct JoinHandle {
    PyObject_HEAD
    PyObject *runtime;
    Outcome *outcome;
    PyObject *job;
} JoinHandle;

/* Waits for a latch; of a handle, it results in what that has. */
typedef struct {
    Leaf leaf;
    Latch *latch;
    JoinHandle *handle;    /* or NULL */
    RunQueue *run_queue;   /* NULL: it does not stand with the latch */
    trale_cell *cell;      /* whom to wake, with a reference */
} LatchWait;

/* ---- Latch -------------------------------------------------------------------------------------- */

/* Leave `call` for `key`, or, for a LatchWait, NULL. Keys are told apart by identity. */
static int store(Latch *self, PyObject *key, PyObject *call)
{
    if (self->key == key || (self->key == NULL && self->more == NULL)) {
        PyObject *old = self->call;
        if (self->key == NULL)
            self->key = Py_NewRef(key);
        self->call = call;
        Py_XINCREF(call);
        Py_XDECREF(old);
        return 0;
    }
    if (self->more == NULL && (self->more = PyDict_New()) == NULL)
        return -1;
    return PyDict_SetItem(self->more, key, call == NULL ? Py_None : call);
}

/* Take out what was left for `key`. 0: there is nothing; -1: an exception is set. */
static int take(Latch *self, PyObject *key, PyObject **call)
{
    PyObject *found;
    if (self->key == key) {
        found = self->call;
        self->key = self->call = NULL;
        Py_DECREF(key);
    } else {
        found = self->more == NULL ? NULL : PyDict_GetItem(self->more, key);
        if (found == NULL)
            return 0;
        Py_INCREF(found);
        if (PyDict_DelItem(self->more, key) < 0) {
            Py_DECREF(found);
            return -1;
        }
        if (found == Py_None)
            Py_CLEAR(found);
    }
    if (call == NULL)
        Py_XDECREF(found);
    else
        *call = found;
    return 1;
}

static int let_through(Latch *self, PyObject *key)
{
    PyObject *call;
    int taken = take(self, key, &call);
    if (taken <= 0)
        return taken;
    if (call == NULL) {
        if (!PyObject_TypeCheck(key, LatchWait_type))  /* of somebody's, equal to a LatchWait */
            return 0;
        LatchWait *wait = (LatchWait *)key;
        trale_wake(wait->run_queue->engine, wait->cell);
        return 0;
    }
    PyObject *result = PyObject_CallNoArgs(call);
    Py_DECREF(call);
    XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int open_latch(Latch *self)
{
    int error = 0;
    self->opened = 1;
    if (self->key != NULL) {
        PyObject *key = Py_NewRef(self->key);
        error = let_through(self, key);
        Py_DECREF(key);
    }
    PyObject *keys = error < 0 || self->more == NULL ? NULL : PyDict_Keys(self->more);
    if (self->more != NULL && keys == NULL)
        return -1;
    for (Py_ssize_t n = 0; keys != NULL && error == 0 && n < PyList_Size(keys); n++)
        error = let_through(self, PyList_GetItem(keys, n));
    XDECREF(keys);
    return error;
}

static PyObject *Latch_open(Latch *self, PyObject *Py_UNUSED(ignored))
{
    if (open_latch(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Latch_call_when_open(Latch *self, PyObject *args)
{
    PyObject *key, *call;
    if (!PyArg_ParseTuple(args, "OO:call_when_open", &key, &call))
        return NULL;
    if (!PyCallable_Check(call))
        return PyErr_Format(PyExc_TypeError, "call has to be something to call, not %R", call);
    if (self->opened)
        Py_RETURN_FALSE;
    if (store(self, key, call) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyObject *Latch_forget(Latch *self, PyObject *key)
{
    if (take(self, key, NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Latch_waiters(Latch *self, void *Py_UNUSED(closure))
{
    PyObject *waiters = self->more == NULL ? PyDict_New() : PyDict_Copy(self->more);
    if (waiters != NULL && self->key != NULL
        && PyDict_SetItem(waiters, self->key, self->call == NULL ? Py_None : self->call) < 0)
        Py_CLEAR(waiters);
    return waiters;
}

Latch *trale_new_latch(void)
{
    return trale_new_object(trale_classes.latch);
}

static int Latch_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    (void)self;
    return PyArg_ParseTupleAndKeywords(args, kwargs, ":Latch", names) ? 0 : -1;
}

static int Latch_traverse(Latch *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->key);
    Py_VISIT(self->call);
    Py_VISIT(self->more);
    return 0;
}

static int Latch_clear(Latch *self)
{
    Py_CLEAR(self->key);
    Py_CLEAR(self->call);
    Py_CLEAR(self->more);
    return 0;
}

static void Latch_dealloc(Latch *self)
{
    PyObject_GC_UnTrack(self);
    Latch_clear(self);
    trale_free_object(self);
}

static PyMethodDef Latch_methods[] = {
    {"open", (PyCFunction)Latch_open, METH_NOARGS, NULL},
    {"call_when_open", (PyCFunction)Latch_call_when_open, METH_VARARGS, NULL},
    {"forget", (PyCFunction)Latch_forget, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Latch_members[] = {
    {"opened", T_BOOL, offsetof(Latch, opened), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Latch_getset[] = {
    {"waiters", (getter)Latch_waiters, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Latch_slots[] = {
    {Py_tp_init, Latch_init},
    {Py_tp_traverse, Latch_traverse},
    {Py_tp_clear, Latch_clear},
    {Py_tp_dealloc, Latch_dealloc},
    {Py_tp_methods, Latch_methods},
    {Py_tp_members, Latch_members},
    {Py_tp_getset, Latch_getset},
    {0, NULL},
};

static PyType_Spec Latch_spec = {
    .name = "trale_py._native.Latch",
    .basicsize = sizeof(Latch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Latch_slots,
};

static PyObject *value_of(Outcome *outcome)
{
    return Py_NewRef(outcome->value == NULL ? Py_None : outcome->value);
}

/* ---- LatchWait ---------------------------------------------------------------------------------- */

static void drop(Leaf *leaf)
{
    LatchWait *self = (LatchWait *)leaf;
    if (self->run_queue == NULL)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (take(self->latch, (PyObject *)self, NULL) < 0)
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, traceback);
    trale_cell_unref(self->cell);
    Py_CLEAR(self->run_queue);
}

static enum step finish(LatchWait *self, PyObject **result)
{
    if (self->handle == NULL)
        *result = Py_NewRef(Py_None);
    else if (trale_is_none(self->handle->outcome->error))
        *result = value_of(self->handle->outcome);
    else  /* raises the error, and counts it as taken */
        *result = PyObject_CallMethodObjArgs((PyObject *)self->handle, name_result, NULL);
    return *result == NULL ? FAILED : DONE;
}

static enum step advance(Leaf *leaf, Context *cx, PyObject **result)
{
    LatchWait *self = (LatchWait *)leaf;
    if (self->latch->opened)
        return finish(self, result);
    if (self->run_queue == NULL && store(self->latch, (PyObject *)self, NULL) < 0)
        return FAILED;
    if (self->run_queue != NULL) {
        trale_cell_unref(self->cell);
        DECREF(self->run_queue);
    }
    self->run_queue = NEWREF(RunQueue, cx->waker->run_queue);
    self->cell = cx->waker->cell;
    trale_cell_ref(self->cell);
    return WAIT;
}

/* See Latch.delivers and Outcome.delivers. */
static bool delivered(Leaf *leaf)
{
    Latch *latch = ((LatchWait *)leaf)->latch;
    return latch->opened
           && !(PyObject_TypeCheck((PyObject *)latch, trale_Outcome) && ((Outcome *)latch)->cancelled);
}

static const LeafKind latch_wait = {.advance = advance, .drop = drop, .delivered = delivered};

static LatchWait *wait_for(PyTypeObject *type, Latch *latch, JoinHandle *handle)
{
    LatchWait *self = (LatchWait *)trale_new_leaf(type, &latch_wait);
    if (self == NULL)
        return NULL;
    self->latch = NEWREF(Latch, latch);
    self->handle = handle == NULL ? NULL : NEWREF(JoinHandle, handle);
    if (handle != NULL)
        self->leaf.use = HANDED;  /* it is made when the handle is awaited */
    return self;
}

static PyObject *LatchWait_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"latch", NULL};
    PyObject *latch;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:LatchWait", names, trale_Latch, &latch))
        return NULL;
    return (PyObject *)wait_for(type, (Latch *)latch, NULL);
}

/* There is no clear: a cycle passes through the latch, which has one. */
static int LatchWait_traverse(LatchWait *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->latch);
    Py_VISIT(self->handle);
    return 0;
}

static void LatchWait_dealloc(LatchWait *self)
{
    if (trale_leaf_stays(self))
        return;
    PyObject_GC_UnTrack(self);
    drop(&self->leaf);
    XDECREF(self->latch);
    XDECREF(self->handle);
    trale_free_object(self);
}

static PyObject *LatchWait_repr(LatchWait *self)
{
    return PyUnicode_FromFormat("<wait of %R>", self->latch);
}

static PyType_Slot LatchWait_slots[] = {
    {Py_tp_new, LatchWait_new},
    {Py_tp_traverse, LatchWait_traverse},
    {Py_tp_dealloc, LatchWait_dealloc},
    {Py_tp_repr, LatchWait_repr},
    TRALE_LEAF_SLOTS,
    {0, NULL},
};

static PyType_Spec LatchWait_spec = {
    .name = "trale_py._native.LatchWait",
    .basicsize = sizeof(LatchWait),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = LatchWait_slots,
};

int trale_add_latch_wait(PyObject *module, PyObject *base)
{
    LatchWait_type = trale_add_type(module, &LatchWait_spec, base);
    return LatchWait_type == NULL ? -1 : 0;
}

/* ---- Outcome ------------------------------------------------------------------------------------ */

static void track(void *object)
{
    if (object != NULL && !PyObject_GC_IsTracked(object))
        PyObject_GC_Track(object);
}

static void track_both(Outcome *self)
{
    track(self);
    track(self->handle);
}

Outcome *trale_new_outcome(void)
{
    PyObject *self = PyType_GenericAlloc(trale_classes.outcome, 0);
    if (self != NULL)
        PyObject_GC_UnTrack(self);
    return (Outcome *)self;
}

int trale_succeed(Outcome *self, PyObject *value)
{
    PyObject *old = self->value;
    self->value = value;
    Py_XDECREF(old);
    if (value != NULL && PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_HAVE_GC))
        track_both(self);
    return open_latch(&self->latch);
}

static PyObject *Outcome_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"task_id", "name", "site", "unclaimed", NULL};
    PyObject *id, *name, *code, *unclaimed;
    int offset;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!(Oi)O!:Outcome", names, &id, &PyUnicode_Type,
                                     &name, &code, &offset, &PyDict_Type, &unclaimed))
        return NULL;
    Outcome *self = (Outcome *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->id = Py_NewRef(id);
    self->name = Py_NewRef(name);
    self->code = Py_NewRef(code);
    self->offset = offset;
    self->unclaimed = Py_NewRef(unclaimed);
    return (PyObject *)self;
}

static trale_field Outcome_error = {
    "error", offsetof(Outcome, error), (PyTypeObject **)&PyExc_BaseException, true,
};

static int Outcome_set_error(Outcome *self, PyObject *error, void *field)
{
    if (trale_set_field(self, error, field) < 0)
        return -1;
    if (self->error != NULL)
        track_both(self);
    return 0;
}

static PyObject *Outcome_succeed(Outcome *self, PyObject *value)
{
    if (trale_succeed(self, Py_NewRef(value)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int Outcome_traverse(Outcome *self, visitproc visit, void *arg)
{
    Py_VISIT(self->error);
    Py_VISIT(self->value);
    Py_VISIT(self->traceback);
    return Latch_traverse(&self->latch, visit, arg);
}

static int Outcome_clear(Outcome *self)
{
    Py_CLEAR(self->error);
    Py_CLEAR(self->value);
    Py_CLEAR(self->traceback);
    return Latch_clear(&self->latch);
}

static void Outcome_dealloc(Outcome *self)
{
    PyObject_GC_UnTrack(self);
    Outcome_clear(self);
    XDECREF(self->id);
    XDECREF(self->name);
    XDECREF(self->code);
    XDECREF(self->unclaimed);
    trale_free_object(self);
}

static PyMemberDef Outcome_members[] = {
    {"id", T_OBJECT, offsetof(Outcome, id), READONLY, NULL},
    {"name", T_OBJECT, offsetof(Outcome, name), READONLY, NULL},
    {"code", T_OBJECT, offsetof(Outcome, code), READONLY, NULL},
    {"offset", T_INT, offsetof(Outcome, offset), READONLY, NULL},
    {"abandoned", T_BOOL, offsetof(Outcome, abandoned), 0, NULL},
    {"cancelled", T_BOOL, offsetof(Outcome, cancelled), 0, NULL},
    {"_value", T_OBJECT, offsetof(Outcome, value), 0, NULL},
    {"_traceback", T_OBJECT, offsetof(Outcome, traceback), 0, NULL},
    {"_unclaimed", T_OBJECT, offsetof(Outcome, unclaimed), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef Outcome_methods[] = {
    {"succeed", (PyCFunction)Outcome_succeed, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Outcome_getset[] = {
    {"error", (getter)trale_get_field, (setter)Outcome_set_error, NULL, &Outcome_error},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Outcome_slots[] = {
    {Py_tp_new, Outcome_new},
    {Py_tp_init, trale_init_nothing},
    {Py_tp_traverse, Outcome_traverse},
    {Py_tp_clear, Outcome_clear},
    {Py_tp_dealloc, Outcome_dealloc},
    {Py_tp_methods, Outcome_methods},
    {Py_tp_members, Outcome_members},
    {Py_tp_getset, Outcome_getset},
    {0, NULL},
};

static PyType_Spec Outcome_spec = {
    .name = "trale_py._native.Outcome",
    .basicsize = sizeof(Outcome),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Outcome_slots,
};

/* ---- JoinHandle --------------------------------------------------------------------------------- */

PyObject *trale_new_handle(PyObject *runtime, Outcome *outcome)
{
    JoinHandle *self = (JoinHandle *)PyType_GenericAlloc(trale_classes.handle, 0);
    if (self != NULL) {
        PyObject_GC_UnTrack(self);
        self->runtime = Py_NewRef(runtime);
        self->outcome = NEWREF(Outcome, outcome);
        outcome->handle = self;
    }
    return (PyObject *)self;
}

static PyObject *JoinHandle_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"runtime", "outcome", NULL};
    PyObject *runtime, *outcome;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!:JoinHandle", names, trale_Runtime, &runtime,
                                     trale_Outcome, &outcome))
        return NULL;
    JoinHandle *self = (JoinHandle *)PyType_GenericAlloc(type, 0);
    if (self != NULL) {
        self->runtime = Py_NewRef(runtime);
        self->outcome = NEWREF(Outcome, outcome);
    }
    return (PyObject *)self;
}

static PyObject *JoinHandle_await(JoinHandle *self)
{
    /* Whoever is polled by the runtime is in its process and before its end. */
    Context *cx = trale_polling();
    PyObject *task = cx == NULL ? NULL : cx->waker->cell->owner;
    if (task == NULL || cx->runtime != self->runtime || !PyObject_TypeCheck(task, trale_Task)
        || ((Task *)task)->outcome == self->outcome) {
        PyObject *checked = PyObject_CallMethodObjArgs((PyObject *)self, name_check_awaitable, NULL);
        if (checked == NULL)
            return NULL;
        Py_DECREF(checked);
    }
    return (PyObject *)wait_for(LatchWait_type, &self->outcome->latch, self);
}

/* The usual join of a script's comes when the task has ended, or before. */
static PyObject *JoinHandle_join(JoinHandle *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords)
{
    Outcome *outcome = self->outcome;
    if (outcome->latch.opened && trale_is_none(outcome->error)
        && trale_thread_runtime() == NULL && count == 0 && keywords == NULL)
        return value_of(outcome);
    return trale_call_python(python_join, self, args, count, keywords);
}

/* Most handles are dropped when there is no error, and none will be looked for. */
static void JoinHandle_finalize(JoinHandle *self)
{
    Outcome *outcome = self->outcome;
    outcome->abandoned = 1;
    if (trale_is_none(outcome->error))
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = PyObject_CallFunctionObjArgs(python_del, self, NULL);
    if (result == NULL)
        PyErr_WriteUnraisable(python_del);
    XDECREF(result);
    PyErr_Restore(type, value, traceback);
}

static int JoinHandle_traverse(JoinHandle *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->runtime);
    Py_VISIT(self->outcome);
    Py_VISIT(self->job);
    return 0;
}

static void JoinHandle_dealloc(JoinHandle *self)
{
    PyObject_GC_UnTrack(self);
    if (self->outcome->handle == self)
        self->outcome->handle = NULL;
    DECREF(self->runtime);
    DECREF(self->outcome);
    XDECREF(self->job);
    trale_free_object(self);
}

static PyMethodDef JoinHandle_methods[] = {
    {"join", TRALE_FAST(JoinHandle_join), NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef JoinHandle_members[] = {
    {"_runtime", T_OBJECT, offsetof(JoinHandle, runtime), READONLY, NULL},
    {"_outcome", T_OBJECT, offsetof(JoinHandle, outcome), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *JoinHandle_get_job(JoinHandle *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->job == NULL ? Py_None : self->job);
}

static int JoinHandle_set_job(JoinHandle *self, PyObject *job, void *Py_UNUSED(closure))
{
    PyObject *old = self->job;
    self->job = Py_XNewRef(job);
    Py_XDECREF(old);
    track(self);
    return 0;
}

static PyGetSetDef JoinHandle_getset[] = {
    {"job", (getter)JoinHandle_get_job, (setter)JoinHandle_set_job, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot JoinHandle_slots[] = {
    {Py_tp_new, JoinHandle_new},
    {Py_tp_init, trale_init_nothing},
    {Py_tp_finalize, JoinHandle_finalize},
    {Py_tp_traverse, JoinHandle_traverse},
    {Py_tp_dealloc, JoinHandle_dealloc},
    {Py_tp_methods, JoinHandle_methods},
    {Py_tp_members, JoinHandle_members},
    {Py_tp_getset, JoinHandle_getset},
    {Py_am_await, JoinHandle_await},
    {0, NULL},
};

static PyType_Spec JoinHandle_spec = {
    .name = "trale_py._native.JoinHandle",
    .basicsize = sizeof(JoinHandle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = JoinHandle_slots,
};

static const trale_use uses[] = {
    {TRALE_USE_OBJECT, "JoinHandle", "join", .place = &python_join},
    {TRALE_USE_OBJECT, "JoinHandle", "__del__", .place = &python_del},
    {TRALE_USE_NAME, "JoinHandle", "result", .place = &name_result},
    {TRALE_USE_NAME, "JoinHandle", "check_awaitable", .place = &name_check_awaitable},
    {0},
};

const trale_uses trale_outcome_uses = {"outcome.c", .after = "JoinHandle", .table = uses};

int trale_add_outcome(PyObject *module)
{
    if ((trale_Latch = trale_add_type(module, &Latch_spec, NULL)) == NULL
        || (trale_Outcome = trale_add_type(module, &Outcome_spec, (PyObject *)trale_Latch)) == NULL
        || (trale_JoinHandle = trale_add_type(module, &JoinHandle_spec, NULL)) == NULL)
        return -1;
    return 0;
}
