/* Executor: it has a task polled, and sees to its end. See executor.py. */

#include "registry.h"
#include "task.h"

static PyObject *executor_name_settle, *executor_name_forget, *executor_name_end_child;

typedef struct {
    PyObject_HEAD
    PyObject *runtime;
    PyObject *polling;  /* the task that is being polled, or NULL */
} Executor;

static int executor_settle(Task *self)
{
    Outcome *outcome = self->outcome;
    if (outcome == NULL || self->cx->ended || !tpy_is_none(self->error)
        || !tpy_is_none(self->root) || !tpy_is_none(self->group))
        return tpy_call_method(self, executor_name_settle, NULL);
    PyObject *value = self->value;
    self->cx->ended = 1;
    self->outcome = NULL;
    self->value = NULL;
    int error = tpy_succeed(outcome, value);
    DECREF(outcome);
    return error;
}

static int executor_end(Task *task, Runtime *runtime, RunQueue *run_queue)
{
    tpy_remove_task(run_queue, task->cx->waker);
    if (runtime->closing) {
        if (tpy_call_method(runtime, executor_name_forget, task) < 0)
            return -1;
    } else if (PyDict_GetItem(runtime->tasks, task->id) != NULL
               && PyDict_DelItem(runtime->tasks, task->id) < 0) {
        return -1;
    }
    int error = executor_settle(task);
    /* The collector does not see through a task, so what may refer to it must go, in case the
     * program keeps it. A coroutine of Python's has no frame any more; another's may have anything. */
    Py_CLEAR(task->context);
    if (task->coro != NULL && (PyObject *)Py_TYPE(task->coro) != tpy_CoroutineType)
        Py_CLEAR(task->coro);
    return error;
}

static PyObject *Executor_poll(Executor *self, PyObject *argument)
{
    Task *task = (Task *)argument;
    Runtime *runtime = (Runtime *)self->runtime;
    if (Py_TYPE(argument) != tpy_classes.task && !PyObject_TypeCheck(argument, tpy_Task)) {
        PyErr_Format(PyExc_TypeError, "task must be a Task, not %R", argument);
        return NULL;
    }
    if (self->polling != NULL || tpy_thread_runtime() != self->runtime)
        return PyErr_Format(PyExc_RuntimeError,
                            "%R is polled by its executor only, one task at a time", task);
    RunQueue *run_queue = task->cx->waker->run_queue;
    /* Before the poll, not after: R2. Not if it is in the queue: R43. */
    if (!trale_wait_on(run_queue->engine, task->cx->waker->cell))
        return PyErr_Format(PyExc_RuntimeError, "%R is not the next task of the batch", task);
    tpy_set_polling(task->cx);
    self->polling = Py_NewRef(argument);
    int ended = tpy_poll_task(task);
    tpy_set_polling(NULL);
    Py_CLEAR(self->polling);
    if (ended < 0
        || (runtime->forked
            && PyObject_CallMethodObjArgs((PyObject *)self, executor_name_end_child, task,
                                          ended ? Py_True : Py_False, NULL) == NULL)
        || (ended && executor_end(task, runtime, run_queue) < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Executor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"runtime", NULL};
    PyObject *runtime;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Executor", names, tpy_Runtime, &runtime))
        return NULL;
    Executor *self = tpy_new_with_dict(type);
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
    tpy_free_object(self);
}

static PyMethodDef Executor_methods[] = {
    {"_poll", (PyCFunction)Executor_poll, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Executor_members[] = {
    {"_runtime", T_OBJECT, offsetof(Executor, runtime), READONLY, NULL},
    {"_polling", T_OBJECT, offsetof(Executor, polling), READONLY, NULL},
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

static const tpy_use executor_uses[] = {
    {TPY_USE_NAME, "Task", "_settle", .place = &executor_name_settle},
    {TPY_USE_NAME, "Executor", "_end_child", .place = &executor_name_end_child},
    {TPY_USE_NAME, "Runtime", "forget", .place = &executor_name_forget},
    {0},
};

const tpy_uses tpy_executor_uses = {"executor.c", .after = "Runtime", .table = executor_uses};

int tpy_add_executor(PyObject *module)
{
    return tpy_add_type(module, &Executor_spec, NULL) == NULL ? -1 : 0;
}
