/* Task, and what is done with each: spawned, polled, ended. See task.py, executor.py, runtime.py. */

#include "registry.h"
#include "task.h"

#include <string.h>

PyTypeObject *trale_Task, *trale_Runtime;
struct classes trale_classes;

/* How many operations a task may do in one turn: see task.py. */
#define BUDGET 128

/* Of the package, and of the standard library. */
static PyObject *package, *default_runtimes, *CoroutineType, *copy_context;
static PyObject *step_in_context;  /* step(), as something to call */

static struct names {
    PyObject *run, *cr_suspended, *qualname, *f_lasti, *module;
    PyObject *check_unstarted, *throw_foreign, *settle, *end_child, *forget, *abandon_rest;
} names;

/* The Python versions of what is here too. */
static struct {
    PyObject *poll, *spawn;
} python;

typedef struct {
    PyObject_HEAD
    PyObject *runtime;
    PyObject *polling;  /* the task that is being polled, or NULL */
} Executor;

/* ---- one poll ----------------------------------------------------------------------------------- */

/* Called in the task's context: run the coroutine to its next suspension. Returns what it yields,
 * or, with task->ended, anything. */
static PyObject *step(PyObject *Py_UNUSED(module), PyObject *argument)
{
    Task *task = (Task *)argument;
    PyObject *result;
    switch (PyIter_Send(task->coro, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        task->ended = 1;
        XDECREF(task->value);
        task->value = result;
        Py_RETURN_NONE;
    default:
        return NULL;
    }
}

static PyMethodDef step_definition = {"step", step, METH_O, NULL};

/* The exception that is set, as an object. */
static PyObject *caught(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* Whether it was raised by the attempt to run the coroutine, and not in it. */
static int from_outside(PyObject *error)
{
    PyObject *traceback = PyException_GetTraceback(error), *cause = PyException_GetCause(error);
    Py_XDECREF(traceback);
    Py_XDECREF(cause);  /* a StopIteration in the coroutine comes out as the cause of an error */
    return traceback == NULL && cause == NULL;
}

static int fail(Task *self, char first)
{
    PyObject *error = caught();
    if (first && from_outside(error)) {  /* it may be another task's, or have ended */
        PyObject *checked = PyObject_CallMethodObjArgs((PyObject *)self, names.check_unstarted, NULL);
        if (checked == NULL) {
            Py_DECREF(error);
            error = caught();
        }
        Py_XDECREF(checked);
    }
    XDECREF(self->error);
    self->error = error;
    self->ended = 1;
    return 1;
}

/* Whether somebody else has begun to run the coroutine, or it is not known. */
static int may_be_suspended(Task *self)
{
    PyObject *suspended = PyObject_GetAttr(self->coro, names.cr_suspended);
    if (suspended == NULL)
        PyErr_Clear();
    Py_XDECREF(suspended);
    return suspended != Py_False;
}

static int truth(PyObject *result)
{
    int is_true = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return is_true;
}

/* 1: it has ended, 0: it has not, -1: an exception is set, which is not the task's. */
static int poll(Task *self)
{
    char first = !self->started;
    if (self->cx->cancelled || !trale_is_none(self->thrown) || self->ended
        || (PyObject *)Py_TYPE(self->coro) != CoroutineType || (first && may_be_suspended(self))) {
        self->turn = 1;
        return truth(PyObject_CallFunctionObjArgs(python.poll, self, NULL));
    }
    self->cx->budget = BUDGET;
    self->started = 1;
    PyObject *yielded =
        PyObject_CallMethodObjArgs(self->context, names.run, step_in_context, self, NULL);
    if (yielded == NULL)
        return fail(self, first);
    int foreign = !self->ended && yielded != trale_PENDING;
    PyObject *thrown = foreign ? PyObject_CallMethodObjArgs((PyObject *)self, names.throw_foreign,
                                                            yielded, NULL) : NULL;
    Py_DECREF(yielded);
    Py_XDECREF(thrown);
    if (foreign && thrown == NULL)
        return fail(self, 0);
    return self->ended;
}

/* ---- Task --------------------------------------------------------------------------------------- */

/* Of a task that was just allocated. -1: an exception is set, and it is to be dropped. */
static int set_up(Task *self, Runtime *runtime, PyObject *coro, Outcome *outcome)
{
    self->coro = Py_NewRef(coro);
    self->id = Py_NewRef(outcome->id);
    self->name = Py_NewRef(outcome->name);
    self->code = Py_XNewRef(outcome->code);
    self->offset = outcome->offset;
    self->outcome = NEWREF(Outcome, outcome);
    self->cx = trale_new_context(runtime->run_queue, self->id, (PyObject *)runtime);
    return self->cx == NULL ? -1 : 0;
}

static PyObject *Task_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"runtime", "coro", "context", "outcome", "parent_id", NULL};
    PyObject *runtime, *coro, *context, *outcome, *parent_id;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOO!O:Task", names, trale_Runtime, &runtime,
                                     &coro, &context, trale_Outcome, &outcome, &parent_id))
        return NULL;
    Task *self = (Task *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->context = Py_NewRef(context);
    self->parent_id = Py_NewRef(parent_id);
    if (set_up(self, (Runtime *)runtime, coro, (Outcome *)outcome) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void Task_dealloc(Task *self)
{
    XDECREF(self->coro);
    XDECREF(self->id);
    XDECREF(self->name);
    XDECREF(self->parent_id);
    XDECREF(self->cx);
    XDECREF(self->outcome);
    XDECREF(self->scope);
    XDECREF(self->root);
    XDECREF(self->group);
    XDECREF(self->context);
    XDECREF(self->value);
    XDECREF(self->error);
    XDECREF(self->thrown);
    XDECREF(self->code);
    trale_free_object(self);
}

static PyMemberDef Task_members[] = {
    {"_coro", T_OBJECT, offsetof(Task, coro), READONLY, NULL},
    {"_id", T_OBJECT, offsetof(Task, id), READONLY, NULL},
    {"_name", T_OBJECT, offsetof(Task, name), READONLY, NULL},
    {"_parent_id", T_OBJECT, offsetof(Task, parent_id), READONLY, NULL},
    {"cx", T_OBJECT, offsetof(Task, cx), READONLY, NULL},
    {"scope", T_OBJECT, offsetof(Task, scope), 0, NULL},
    {"root", T_OBJECT, offsetof(Task, root), 0, NULL},
    {"group", T_OBJECT, offsetof(Task, group), 0, NULL},
    {"_context", T_OBJECT, offsetof(Task, context), READONLY, NULL},
    {"_code", T_OBJECT, offsetof(Task, code), READONLY, NULL},
    {"_offset", T_INT, offsetof(Task, offset), READONLY, NULL},
    {"_value", T_OBJECT, offsetof(Task, value), 0, NULL},
    {"_turn", T_BOOL, offsetof(Task, turn), 0, NULL},
    {"_started", T_BOOL, offsetof(Task, started), 0, NULL},
    {"_ended", T_BOOL, offsetof(Task, ended), 0, NULL},
    {"_cancel_called", T_BOOL, offsetof(Task, cancel_called), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static trale_field Task_fields[] = {
    {"_outcome", offsetof(Task, outcome), &trale_Outcome, true},
    {"_error", offsetof(Task, error), (PyTypeObject **)&PyExc_BaseException, true},
    {"_throw", offsetof(Task, thrown), (PyTypeObject **)&PyExc_BaseException, true},
};

static PyGetSetDef Task_getset[] = {
    {"_outcome", (getter)trale_get_field, (setter)trale_set_field, NULL, &Task_fields[0]},
    {"_error", (getter)trale_get_field, (setter)trale_set_field, NULL, &Task_fields[1]},
    {"_throw", (getter)trale_get_field, (setter)trale_set_field, NULL, &Task_fields[2]},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Task_slots[] = {
    {Py_tp_new, Task_new},
    {Py_tp_init, trale_init_nothing},
    {Py_tp_dealloc, Task_dealloc},
    {Py_tp_members, Task_members},
    {Py_tp_getset, Task_getset},
    {0, NULL},
};

static PyType_Spec Task_spec = {
    .name = "trale_py._native.Task",
    .basicsize = sizeof(Task),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = Task_slots,
};

/* ---- Executor ----------------------------------------------------------------------------------- */

static int call(void *object, PyObject *name, void *argument)
{
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)object, name, argument, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int settle(Task *self)
{
    Outcome *outcome = self->outcome;
    if (outcome == NULL || self->cx->ended || !trale_is_none(self->error)
        || !trale_is_none(self->root) || !trale_is_none(self->group))
        return call(self, names.settle, NULL);
    PyObject *value = self->value;
    self->cx->ended = 1;
    self->outcome = NULL;
    self->value = NULL;
    int error = trale_succeed(outcome, value);
    DECREF(outcome);
    return error;
}

static int end(Task *task, Runtime *runtime, RunQueue *run_queue)
{
    trale_remove_task(run_queue, task->cx->waker);
    if (runtime->closing) {
        if (call(runtime, names.forget, task) < 0)
            return -1;
    } else if (PyDict_GetItem(runtime->tasks, task->id) != NULL
               && PyDict_DelItem(runtime->tasks, task->id) < 0) {
        return -1;
    }
    int error = settle(task);
    /* The collector does not see through a task, so what may refer to it has to go, should somebody
     * keep it. A coroutine of Python's has no frame any more; another's may have anything. */
    Py_CLEAR(task->context);
    if (task->coro != NULL && (PyObject *)Py_TYPE(task->coro) != CoroutineType)
        Py_CLEAR(task->coro);
    return error;
}

static PyObject *Executor_poll(Executor *self, PyObject *argument)
{
    Task *task = (Task *)argument;
    Runtime *runtime = (Runtime *)self->runtime;
    if (!PyObject_TypeCheck(argument, trale_Task)) {
        PyErr_Format(PyExc_TypeError, "task must be a Task, not %R", argument);
        return NULL;
    }
    if (self->polling != NULL || trale_thread_runtime() != self->runtime)
        return PyErr_Format(PyExc_RuntimeError,
                            "%R is polled by its executor, which polls one task at a time", task);
    RunQueue *run_queue = task->cx->waker->run_queue;
    /* Before the poll, not after: R2. Not if it is in the queue: R43. */
    if (!trale_wait_on(run_queue->engine, task->cx->waker->cell))
        return PyErr_Format(PyExc_RuntimeError, "it is not the turn of %R", task);
    trale_set_polling(task->cx);
    self->polling = Py_NewRef(argument);
    int ended = poll(task);
    trale_set_polling(NULL);
    Py_CLEAR(self->polling);
    if (ended < 0
        || (runtime->forked
            && PyObject_CallMethodObjArgs((PyObject *)self, names.end_child, task,
                                          ended ? Py_True : Py_False, NULL) == NULL)
        || (ended && end(task, runtime, run_queue) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Executor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"runtime", NULL};
    PyObject *runtime;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Executor", names, trale_Runtime, &runtime))
        return NULL;
    Executor *self = trale_new_with_dict(type);
    if (self != NULL)
        self->runtime = Py_NewRef(runtime);
    return (PyObject *)self;
}

static int Executor_traverse(Executor *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->runtime);
    Py_VISIT(self->polling);
    return 0;
}

/* There is no clear: a cycle passes through the runtime's dict. */
static void Executor_dealloc(Executor *self)
{
    PyObject_GC_UnTrack(self);
    XDECREF(self->runtime);
    XDECREF(self->polling);
    trale_free_object(self);
}

static PyMethodDef Executor_methods[] = {
    {"_poll", (PyCFunction)Executor_poll, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Executor_members[] = {
    {"_runtime", T_OBJECT, offsetof(Executor, runtime), READONLY, NULL},
    {"polling", T_OBJECT, offsetof(Executor, polling), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Executor_slots[] = {
    {Py_tp_new, Executor_new},
    {Py_tp_traverse, Executor_traverse},
    {Py_tp_dealloc, Executor_dealloc},
    {Py_tp_methods, Executor_methods},
    {Py_tp_members, Executor_members},
    {0, NULL},
};

static PyType_Spec Executor_spec = {
    .name = "trale_py._native.Executor",
    .basicsize = sizeof(Executor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Executor_slots,
};

/* ---- Runtime, and spawn ------------------------------------------------------------------------- */

static Task *make_task(Runtime *self, PyObject *coro, Outcome *outcome)
{
    Task *task = (Task *)PyType_GenericAlloc(trale_classes.task, 0);
    if (task == NULL)
        return NULL;
    PyObject_GC_UnTrack(task);  /* as a class of Python's it would be tracked */
    Context *polling = trale_polling();
    PyObject *parent = polling == NULL || polling->runtime != (PyObject *)self
                           ? NULL : polling->waker->task_id;
    task->parent_id = Py_XNewRef(parent);
    if (set_up(task, self, coro, outcome) < 0
        || (task->context = PyObject_CallNoArgs(copy_context)) == NULL)
        Py_CLEAR(task);
    return task;
}

/* Where the spawn stands. -1: an exception is set; 0: in the package, on whose behalf is not known. */
static int find_site(PyObject **code, int *offset)
{
    PyFrameObject *frame = PyEval_GetFrame();
    PyObject *globals = PyEval_GetGlobals();
    PyObject *module = globals == NULL ? NULL : PyDict_GetItem(globals, names.module);
    if (frame == NULL || module == NULL || !PyUnicode_Check(module))
        return 0;
    Py_ssize_t inside = PyUnicode_Tailmatch(module, package, 0, PY_SSIZE_T_MAX, -1);
    if (inside != 0)
        return inside < 0 ? -1 : 0;
    PyObject *number = PyObject_GetAttr((PyObject *)frame, names.f_lasti);
    if (number == NULL)
        return -1;
    *offset = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    *code = (PyObject *)PyFrame_GetCode(frame);
    return 1;
}

static Outcome *make_outcome(Runtime *self, PyObject *coro)
{
    Outcome *outcome = trale_new_outcome();
    if (outcome == NULL)
        return NULL;
    outcome->unclaimed = Py_NewRef(self->unclaimed);
    if ((outcome->id = PyLong_FromLongLong(++self->last_id)) == NULL
        || (outcome->name = PyObject_GetAttr(coro, names.qualname)) == NULL)
        Py_CLEAR(outcome);
    return outcome;
}

static int begin(Runtime *self, Task *task)
{
    if (PyDict_SetItem(self->tasks, task->id, (PyObject *)task) < 0)
        return -1;
    trale_push_task(self->run_queue, task->cx->waker, (PyObject *)task);
    return self->has_ended->opened ? call(self, names.abandon_rest, NULL) : 0;
}

/* The handle; NULL without an exception: let the plain one do it. */
static PyObject *spawn_usual(Runtime *self, PyObject *coro)
{
    PyObject *code = NULL, *handle = NULL;
    int offset = 0;
    if (find_site(&code, &offset) <= 0)
        return NULL;
    Outcome *outcome = make_outcome(self, coro);
    if (outcome != NULL) {
        outcome->code = Py_NewRef(code);
        outcome->offset = offset;
    }
    Task *task = outcome == NULL ? NULL : make_task(self, coro, outcome);
    if (task != NULL)
        handle = trale_new_handle((PyObject *)self, outcome);
    if (handle != NULL && begin(self, task) < 0)
        Py_CLEAR(handle);
    XDECREF(task);
    XDECREF(outcome);
    Py_DECREF(code);
    return handle;
}

PyObject *trale_spawn(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    PyObject *coro = count == 1 && keywords == NULL ? args[0] : NULL;
    PyObject *runtime = trale_thread_runtime();
    if (runtime == NULL && default_runtimes != NULL)
        runtime = PyDict_GetItem(default_runtimes, Py_None);
    if (coro != NULL && (PyObject *)Py_TYPE(coro) == CoroutineType && runtime != NULL
        && PyObject_TypeCheck(runtime, trale_Runtime)) {
        Runtime *self = (Runtime *)Py_NewRef(runtime);
        PyObject *handle = NULL;
        if (self->is_started->opened && !self->closing)
            handle = spawn_usual(self, coro);
        DECREF(self);
        if (handle != NULL || PyErr_Occurred())
            return handle;
    }
    return trale_call_python(python.spawn, NULL, args, count, keywords);
}

static PyObject *Runtime_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                             PyObject *Py_UNUSED(kwargs))
{
    Runtime *self = trale_new_with_dict(type);
    if (self == NULL)
        return NULL;
    if ((self->run_queue = (RunQueue *)PyObject_CallNoArgs((PyObject *)trale_RunQueue)) == NULL
        || (self->tasks = PyDict_New()) == NULL || (self->unclaimed = PyDict_New()) == NULL
        || (self->is_started = trale_new_latch()) == NULL
        || (self->has_ended = trale_new_latch()) == NULL)
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

static trale_field Runtime_run_queue = {
    "run_queue", offsetof(Runtime, run_queue), &trale_RunQueue, false,
};

static PyGetSetDef Runtime_getset[] = {
    {"run_queue", (getter)trale_get_field, (setter)trale_set_field, NULL, &Runtime_run_queue},
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
    trale_free_object(self);
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

/* ---- the module --------------------------------------------------------------------------------- */

void trale_made(PyTypeObject *class)
{
    if (!PyType_HasFeature(class, Py_TPFLAGS_HAVE_GC))  /* the part itself: see make_task */
        return;
    INCREF(class);
    if (PyType_IsSubtype(class, trale_Task))
        trale_classes.task = class;
    else if (PyType_IsSubtype(class, trale_Outcome))
        trale_classes.outcome = class;
    else if (PyType_IsSubtype(class, trale_Latch))
        trale_classes.latch = class;
    else if (PyType_IsSubtype(class, trale_JoinHandle))
        trale_classes.handle = class;
    else
        DECREF(class);
}

static const trale_use uses[] = {
    {TRALE_USE_OBJECT, "types", "CoroutineType", .place = &CoroutineType},
    {TRALE_USE_NAME, "types:CoroutineType", "cr_suspended", .place = &names.cr_suspended},
    {TRALE_USE_NAME, "types:CoroutineType", "__qualname__", .place = &names.qualname},
    {TRALE_USE_NAME, "types:FrameType", "f_lasti", .place = &names.f_lasti},
    {TRALE_USE_OBJECT, "contextvars", "copy_context", .place = &copy_context},
    {TRALE_USE_NAME, "contextvars:Context", "run", .place = &names.run},
    {TRALE_USE_NAME, "types:ModuleType", "__name__", .place = &names.module},
    {TRALE_USE_OBJECT, "trale_py.core.coroutine", "PREFIX", .place = &package},
    {TRALE_USE_OBJECT, "trale_py.core.current", "default", .place = &default_runtimes},
    {TRALE_USE_NUMBER, "trale_py.core.task", "BUDGET", .number = BUDGET},
    {TRALE_USE_OBJECT, "Task", "_poll", .place = &python.poll},
    {TRALE_USE_NAME, "Task", "settle", .place = &names.settle},
    {TRALE_USE_NAME, "Task", "_check_unstarted", .place = &names.check_unstarted},
    {TRALE_USE_NAME, "Task", "_throw_foreign", .place = &names.throw_foreign},
    {TRALE_USE_OBJECT, "spawn", NULL, .place = &python.spawn},
    {TRALE_USE_NAME, "Executor", "_end_child", .place = &names.end_child},
    {TRALE_USE_NAME, "Runtime", "forget", .place = &names.forget},
    {TRALE_USE_NAME, "Runtime", "_abandon_rest", .place = &names.abandon_rest},
    {0},
};

const trale_uses trale_task_uses = {"task.c", .after = "Runtime", .table = uses};

int trale_add_task(PyObject *module)
{
    if ((step_in_context = PyCFunction_New(&step_definition, NULL)) == NULL
        || (trale_Task = trale_add_type(module, &Task_spec, NULL)) == NULL
        || trale_add_type(module, &Executor_spec, NULL) == NULL
        || (trale_Runtime = trale_add_type(module, &Runtime_spec, NULL)) == NULL)
        return -1;
    return 0;
}
