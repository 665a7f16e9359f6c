/* Runtime, and spawn: see runtime.py, executor.py. */

#include "registry.h"
#include "task.h"

PyTypeObject *tpy_Runtime;

static PyObject *runtime_defaults;      /* the dict of current.py */
static PyObject *runtime_package;       /* with which the names of its modules begin */
static PyObject *runtime_python_spawn;  /* spawn as it stands in Python */
static PyObject *runtime_name_qualname, *runtime_name_f_lasti, *runtime_name_module;
static PyObject *runtime_name_abandon_rest;

/* Where the spawn stands. -1: an exception is set; 0: in the package, on whose behalf is not known. */
static int runtime_find_site(PyObject **code, int *offset)
{
    PyFrameObject *frame = PyEval_GetFrame();
    PyObject *globals = PyEval_GetGlobals();
    PyObject *module = globals == NULL ? NULL : PyDict_GetItem(globals, runtime_name_module);
    if (frame == NULL || module == NULL || !PyUnicode_Check(module))
        return 0;
    Py_ssize_t inside = PyUnicode_Tailmatch(module, runtime_package, 0, PY_SSIZE_T_MAX, -1);
    if (inside != 0)
        return inside < 0 ? -1 : 0;
    PyObject *number = PyObject_GetAttr((PyObject *)frame, runtime_name_f_lasti);
    if (number == NULL)
        return -1;
    *offset = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    *code = (PyObject *)PyFrame_GetCode(frame);
    return 1;
}

static Outcome *runtime_make_outcome(Runtime *self, PyObject *coro)
{
    Outcome *outcome = tpy_new_outcome();
    if (outcome == NULL)
        return NULL;
    outcome->unclaimed = Py_NewRef(self->unclaimed);
    if ((outcome->id = PyLong_FromLongLong(++self->last_id)) == NULL
        || (outcome->name = PyObject_GetAttr(coro, runtime_name_qualname)) == NULL)
        Py_CLEAR(outcome);
    return outcome;
}

static int runtime_begin(Runtime *self, Task *task)
{
    if (PyDict_SetItem(self->tasks, task->id, (PyObject *)task) < 0)
        return -1;
    tpy_push_task(self->run_queue, task->cx->waker, (PyObject *)task);
    return self->has_ended->opened ? tpy_call_method(self, runtime_name_abandon_rest, NULL) : 0;
}

/* The handle; NULL without an exception: let the plain one do it. */
static PyObject *runtime_spawn(Runtime *self, PyObject *coro)
{
    PyObject *code = NULL, *handle = NULL;
    int offset = 0;
    if (runtime_find_site(&code, &offset) <= 0)
        return NULL;
    Outcome *outcome = runtime_make_outcome(self, coro);
    if (outcome != NULL) {
        outcome->code = Py_NewRef(code);
        outcome->offset = offset;
    }
    Task *task = outcome == NULL ? NULL : tpy_new_task(self, coro, outcome);
    if (task != NULL)
        handle = tpy_new_handle((PyObject *)self, outcome);
    if (handle != NULL && runtime_begin(self, task) < 0)
        Py_CLEAR(handle);
    XDECREF(task);
    XDECREF(outcome);
    Py_DECREF(code);
    return handle;
}

PyObject *tpy_spawn(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *coro = count == 1 && keywords == NULL ? args[0] : NULL;
    PyObject *runtime = tpy_thread_runtime();
    if (runtime == NULL)
        runtime = tpy_thread_chosen();
    if (runtime == NULL && runtime_defaults != NULL)
        runtime = PyDict_GetItem(runtime_defaults, Py_None);
    if (coro != NULL && (PyObject *)Py_TYPE(coro) == tpy_CoroutineType && runtime != NULL
        && PyObject_TypeCheck(runtime, tpy_Runtime)) {
        Runtime *self = (Runtime *)Py_NewRef(runtime);
        PyObject *handle = NULL;
        if (self->is_started->opened && !self->closing)
            handle = runtime_spawn(self, coro);
        DECREF(self);
        if (handle != NULL || PyErr_Occurred())
            return handle;
    }
    return tpy_call_python(runtime_python_spawn, NULL, args, count, keywords);
}

static PyObject *Runtime_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                             PyObject *Py_UNUSED(kwargs))
{
    Runtime *self = tpy_new_with_dict(type);
    if (self == NULL)
        return NULL;
    if ((self->run_queue = (RunQueue *)PyObject_CallNoArgs((PyObject *)tpy_RunQueue)) == NULL
        || (self->tasks = PyDict_New()) == NULL || (self->unclaimed = PyDict_New()) == NULL
        || (self->is_started = tpy_new_latch()) == NULL
        || (self->has_ended = tpy_new_latch()) == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *Runtime_next_id(Runtime *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(++self->last_id);
}

static PyMethodDef Runtime_methods[] = {
    {"_next_id", (PyCFunction)Runtime_next_id, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Runtime_members[] = {
    {"_tasks", T_OBJECT, offsetof(Runtime, tasks), READONLY, NULL},
    {"unclaimed", T_OBJECT, offsetof(Runtime, unclaimed), READONLY, NULL},
    {"_started", T_OBJECT, offsetof(Runtime, is_started), READONLY, NULL},
    {"_ended", T_OBJECT, offsetof(Runtime, has_ended), READONLY, NULL},
    {"closing", T_BOOL, offsetof(Runtime, closing), 0, NULL},
    {"forked", T_BOOL, offsetof(Runtime, forked), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static tpy_field Runtime_run_queue = {
    "run_queue", offsetof(Runtime, run_queue), &tpy_RunQueue, false,
};

static PyGetSetDef Runtime_getset[] = {
    {"run_queue", (getter)tpy_get_field, (setter)tpy_set_field, NULL, &Runtime_run_queue},
    {NULL, NULL, NULL, NULL, NULL},
};

/* The default runtime is never freed, and those of tests are in cycles with classes of Python's that
 * have a clear: there is none here, so a runtime in use has all its fields. */
static int Runtime_traverse(Runtime *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->tasks);
    Py_VISIT(self->unclaimed);
    Py_VISIT(self->is_started);
    Py_VISIT(self->has_ended);
    return 0;
}

static void Runtime_dealloc(Runtime *self)
{
    PyObject_GC_UnTrack(self);
    XDECREF(self->run_queue);
    XDECREF(self->tasks);
    XDECREF(self->unclaimed);
    XDECREF(self->is_started);
    XDECREF(self->has_ended);
    tpy_free_object(self);
}

static PyType_Slot Runtime_slots[] = {
    {Py_tp_new, Runtime_new},
    {Py_tp_traverse, Runtime_traverse},
    {Py_tp_dealloc, Runtime_dealloc},
    {Py_tp_methods, Runtime_methods},
    {Py_tp_members, Runtime_members},
    {Py_tp_getset, Runtime_getset},
    {0, NULL},
};

static PyType_Spec Runtime_spec = {
    .name = "trale_py._native.Runtime",
    .basicsize = sizeof(Runtime),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Runtime_slots,
};

static const tpy_use runtime_uses[] = {
    {TPY_USE_NAME, "types:CoroutineType", "__qualname__", .place = &runtime_name_qualname},
    {TPY_USE_NAME, "types:FrameType", "f_lasti", .place = &runtime_name_f_lasti},
    {TPY_USE_NAME, "types:ModuleType", "__name__", .place = &runtime_name_module},
    {TPY_USE_OBJECT, "trale_py.core.coroutine", "PREFIX", .place = &runtime_package},
    {TPY_USE_OBJECT, "trale_py.core.current", "default", .place = &runtime_defaults},
    {TPY_USE_OBJECT, "spawn", NULL, .place = &runtime_python_spawn},
    {TPY_USE_NAME, "Runtime", "_abandon_rest", .place = &runtime_name_abandon_rest},
    {0},
};

const tpy_uses tpy_runtime_uses = {"runtime.c", .after = "Runtime", .table = runtime_uses};

int tpy_add_runtime(PyObject *module)
{
    return (tpy_Runtime = tpy_add_type(module, &Runtime_spec, NULL)) == NULL ? -1 : 0;
}
