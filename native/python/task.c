/* Task, and one poll of it: see task.py. */

#include "registry.h"
#include "task.h"

PyTypeObject *tpy_Task;
PyObject *tpy_CoroutineType;
struct classes tpy_classes;

/* How many operations a task may do in one turn: see task.py. */
#define BUDGET 128

static PyObject *task_copy_context;     /* of contextvars */
static PyObject *task_step_in_context;  /* task_step(), as something to call */
static PyObject *task_python_poll;      /* Task._poll as it stands in Python */
static PyObject *task_name_run, *task_name_cr_suspended;
static PyObject *task_name_check_unstarted, *task_name_throw_foreign;

/* ---- one poll ----------------------------------------------------------------------------------- */

/* Called in the task's context: run the coroutine to its next suspension. Returns what it yields,
 * or, with task->ended, anything. */
static PyObject *task_step(PyObject *Py_UNUSED(module), PyObject *argument)
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

static PyMethodDef task_step_definition = {"step", task_step, METH_O, NULL};

PyObject *tpy_caught(void)
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
static int task_from_outside(PyObject *error)
{
    PyObject *traceback = PyException_GetTraceback(error), *cause = PyException_GetCause(error);
    Py_XDECREF(traceback);
    Py_XDECREF(cause);  /* a StopIteration in the coroutine comes out as the cause of an error */
    return traceback == NULL && cause == NULL;
}

static int task_fail(Task *self, char first)
{
    PyObject *error = tpy_caught();
    if (first && task_from_outside(error)) {  /* it may be another task's, or have ended */
        PyObject *checked = PyObject_CallMethodObjArgs((PyObject *)self, task_name_check_unstarted, NULL);
        if (checked == NULL) {
            Py_DECREF(error);
            error = tpy_caught();
        }
        Py_XDECREF(checked);
    }
    XDECREF(self->error);
    self->error = error;
    self->ended = 1;
    return 1;
}

/* Whether other code has begun to run the coroutine, or it is not known. */
static int task_may_be_suspended(Task *self)
{
    PyObject *suspended = PyObject_GetAttr(self->coro, task_name_cr_suspended);
    if (suspended == NULL)
        PyErr_Clear();
    Py_XDECREF(suspended);
    return suspended != Py_False;
}

static int task_truth(PyObject *result)
{
    int is_true = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return is_true;
}

int tpy_poll_task(Task *self)
{
    char first = !self->started;
    if (self->cx->cancelled || !tpy_is_none(self->thrown) || self->ended
        || (PyObject *)Py_TYPE(self->coro) != tpy_CoroutineType
        || (first && task_may_be_suspended(self))) {
        self->turn = 1;
        return task_truth(PyObject_CallFunctionObjArgs(task_python_poll, self, NULL));
    }
    self->cx->budget = BUDGET;
    self->started = 1;
    PyObject *yielded =
        PyObject_CallMethodObjArgs(self->context, task_name_run, task_step_in_context, self, NULL);
    if (yielded == NULL)
        return task_fail(self, first);
    int foreign = !self->ended && yielded != tpy_PENDING;
    PyObject *thrown = foreign ? PyObject_CallMethodObjArgs((PyObject *)self, task_name_throw_foreign,
                                                            yielded, NULL) : NULL;
    Py_DECREF(yielded);
    Py_XDECREF(thrown);
    if (foreign && thrown == NULL)
        return task_fail(self, 0);
    return self->ended;
}

/* ---- Task --------------------------------------------------------------------------------------- */

/* Of a task that was just allocated. -1: an exception is set, and it is to be dropped. */
static int task_set_up(Task *self, Runtime *runtime, PyObject *coro, Outcome *outcome)
{
    self->coro = Py_NewRef(coro);
    self->id = Py_NewRef(outcome->id);
    self->name = Py_NewRef(outcome->name);
    self->code = Py_XNewRef(outcome->code);
    self->offset = outcome->offset;
    self->outcome = NEWREF(Outcome, outcome);
    self->cx = tpy_new_context(runtime->run_queue, self->id, (PyObject *)runtime);
    return self->cx == NULL ? -1 : 0;
}

Task *tpy_new_task(Runtime *runtime, PyObject *coro, Outcome *outcome)
{
    Task *task = (Task *)PyType_GenericAlloc(tpy_classes.task, 0);
    if (task == NULL)
        return NULL;
    PyObject_GC_UnTrack(task);  /* as a class of Python's it would be tracked */
    Context *polling = tpy_polling();
    PyObject *parent = polling == NULL || polling->runtime != (PyObject *)runtime
                           ? NULL : polling->waker->task_id;
    task->parent_id = Py_XNewRef(parent);
    if (task_set_up(task, runtime, coro, outcome) < 0
        || (task->context = PyObject_CallNoArgs(task_copy_context)) == NULL)
        Py_CLEAR(task);
    return task;
}

static PyObject *Task_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"runtime", "coro", "context", "outcome", "parent_id", NULL};
    PyObject *runtime, *coro, *context, *outcome, *parent_id;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOO!O:Task", names, tpy_Runtime, &runtime,
                                     &coro, &context, tpy_Outcome, &outcome, &parent_id))
        return NULL;
    Task *self = (Task *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->context = Py_NewRef(context);
    self->parent_id = Py_NewRef(parent_id);
    if (task_set_up(self, (Runtime *)runtime, coro, (Outcome *)outcome) < 0)
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
    tpy_free_object(self);
}

static PyMemberDef Task_members[] = {
    {"_coro", T_OBJECT, offsetof(Task, coro), READONLY, NULL},
    {"_id", T_OBJECT, offsetof(Task, id), READONLY, NULL},
    {"_name", T_OBJECT, offsetof(Task, name), READONLY, NULL},
    {"_parent_id", T_OBJECT, offsetof(Task, parent_id), READONLY, NULL},
    {"_cx", T_OBJECT, offsetof(Task, cx), READONLY, NULL},
    {"_scope", T_OBJECT, offsetof(Task, scope), 0, NULL},
    {"_root", T_OBJECT, offsetof(Task, root), 0, NULL},
    {"_group", T_OBJECT, offsetof(Task, group), 0, NULL},
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

static tpy_field Task_fields[] = {
    {"_outcome", offsetof(Task, outcome), &tpy_Outcome, true},
    {"_error", offsetof(Task, error), (PyTypeObject **)&PyExc_BaseException, true},
    {"_throw", offsetof(Task, thrown), (PyTypeObject **)&PyExc_BaseException, true},
};

static PyGetSetDef Task_getset[] = {
    {"_outcome", (getter)tpy_get_field, (setter)tpy_set_field, NULL, &Task_fields[0]},
    {"_error", (getter)tpy_get_field, (setter)tpy_set_field, NULL, &Task_fields[1]},
    {"_throw", (getter)tpy_get_field, (setter)tpy_set_field, NULL, &Task_fields[2]},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Task_slots[] = {
    {Py_tp_new, Task_new},
    {Py_tp_init, tpy_init_nothing},
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

void tpy_made(PyTypeObject *class)
{
    if (!PyType_HasFeature(class, Py_TPFLAGS_HAVE_GC))  /* the part itself: see make_task */
        return;
    INCREF(class);
    if (PyType_IsSubtype(class, tpy_Task))
        tpy_classes.task = class;
    else if (PyType_IsSubtype(class, tpy_Outcome))
        tpy_classes.outcome = class;
    else if (PyType_IsSubtype(class, tpy_Latch))
        tpy_classes.latch = class;
    else if (PyType_IsSubtype(class, tpy_JoinHandle))
        tpy_classes.handle = class;
    else
        DECREF(class);
}

static const tpy_use task_uses[] = {
    {TPY_USE_NUMBER, "trale_py.core.task", "BUDGET", .number = BUDGET},
    {TPY_USE_OBJECT, "types", "CoroutineType", .place = &tpy_CoroutineType},
    {TPY_USE_NAME, "types:CoroutineType", "cr_suspended", .place = &task_name_cr_suspended},
    {TPY_USE_OBJECT, "contextvars", "copy_context", .place = &task_copy_context},
    {TPY_USE_NAME, "contextvars:Context", "run", .place = &task_name_run},
    {TPY_USE_OBJECT, "Task", "_poll", .place = &task_python_poll},
    {TPY_USE_NAME, "Task", "_check_unstarted", .place = &task_name_check_unstarted},
    {TPY_USE_NAME, "Task", "_throw_foreign", .place = &task_name_throw_foreign},
    {0},
};

const tpy_uses tpy_task_uses = {"task.c", .after = "Runtime", .table = task_uses};

int tpy_add_task(PyObject *module)
{
    if ((task_step_in_context = PyCFunction_New(&task_step_definition, NULL)) == NULL
        || (tpy_Task = tpy_add_type(module, &Task_spec, NULL)) == NULL)
        return -1;
    return 0;
}
