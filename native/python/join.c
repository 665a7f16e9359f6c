/* JoinHandle: see join.py. */

#include "registry.h"
#include "task.h"

PyTypeObject *tpy_JoinHandle;
static PyObject *join_name_check_awaitable;
static PyObject *join_python_join, *join_python_del;  /* the Python versions */

PyObject *tpy_new_handle(PyObject *runtime, Outcome *outcome)
{
    JoinHandle *self = (JoinHandle *)PyType_GenericAlloc(tpy_classes.handle, 0);
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
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!:JoinHandle", names, tpy_Runtime, &runtime,
                                     tpy_Outcome, &outcome))
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
    /* A task that is polled by the runtime is in its process and before its end. */
    Context *cx = tpy_polling();
    PyObject *task = cx == NULL ? NULL : cx->waker->cell->owner;
    if (task == NULL || cx->runtime != self->runtime || !PyObject_TypeCheck(task, tpy_Task)
        || ((Task *)task)->outcome == self->outcome) {
        PyObject *checked = PyObject_CallMethodObjArgs((PyObject *)self, join_name_check_awaitable, NULL);
        if (checked == NULL)
            return NULL;
        Py_DECREF(checked);
    }
    return tpy_new_latch_wait(self);
}

/* The usual join of a script's comes when the task has ended, or before. */
static PyObject *JoinHandle_join(JoinHandle *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords)
{
    Outcome *outcome = self->outcome;
    if (outcome->latch.opened && tpy_is_none(outcome->error)
        && tpy_thread_runtime() == NULL && count == 0 && keywords == NULL)
        return tpy_outcome_value(outcome);
    return tpy_call_python(join_python_join, self, args, count, keywords);
}

/* Most handles are dropped when there is no error, and none will be looked for. */
static void JoinHandle_finalize(JoinHandle *self)
{
    Outcome *outcome = self->outcome;
    outcome->abandoned = 1;
    if (tpy_is_none(outcome->error))
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = PyObject_CallFunctionObjArgs(join_python_del, self, NULL);
    if (result == NULL)
        PyErr_WriteUnraisable(join_python_del);
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
    tpy_free_object(self);
}

static PyMethodDef JoinHandle_methods[] = {
    {"join", TPY_FAST(JoinHandle_join), NULL},
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
    tpy_track(self);
    return 0;
}

static PyGetSetDef JoinHandle_getset[] = {
    {"_job", (getter)JoinHandle_get_job, (setter)JoinHandle_set_job, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot JoinHandle_slots[] = {
    {Py_tp_new, JoinHandle_new},
    {Py_tp_init, tpy_init_nothing},
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

static const tpy_use join_uses[] = {
    {TPY_USE_OBJECT, "JoinHandle", "join", .place = &join_python_join},
    {TPY_USE_OBJECT, "JoinHandle", "__del__", .place = &join_python_del},
    {TPY_USE_NAME, "JoinHandle", "_check_awaitable", .place = &join_name_check_awaitable},
    {0},
};

const tpy_uses tpy_join_uses = {"join.c", .after = "JoinHandle", .table = join_uses};

int tpy_add_join(PyObject *module)
{
    return (tpy_JoinHandle = tpy_add_type(module, &JoinHandle_spec, NULL)) == NULL ? -1 : 0;
}
