/* RunQueue, and the batches it hands out: see run_queue.py. */

#include "registry.h"
#include "simulation.h"
#include "waits.h"

#include <errno.h>

PyTypeObject *tpy_RunQueue;

/* An iterator over the tasks of a batch; the calls between them are made on the way. */
typedef struct {
    PyObject_HEAD
    RunQueue *run_queue;
} Batch;

static PyTypeObject *Batch_type;
static PyObject *run_queue_make_published;  /* of run_queue.py: it reports what goes wrong */
static PyObject *run_queue_share_thread;  /* run_queue.share_thread */
static PyObject *run_queue_name_wake;
static PyObject *run_queue_modules, *run_queue_ASYNCIO;  /* sys.modules, and a name in it */

/* ---- RunQueue ----------------------------------------------------------------------------------- */

static PyObject *RunQueue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":RunQueue", names))
        return NULL;
    RunQueue *self = (RunQueue *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->engine = trale_new();
    if (self->engine == NULL) {
        DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

/* The owner of a cell taken from the queue, with a reference; NULL: it has ended. */
static PyObject *run_queue_take_owner(trale_cell *cell)
{
    PyObject *owner = cell->owner;
    if (cell->kind == KIND_TASK)
        Py_XINCREF(owner);
    else
        cell->owner = NULL;
    trale_cell_unref(cell);
    return owner;
}

static void RunQueue_dealloc(RunQueue *self)
{
    if (self->engine != NULL) {
        for (trale_cell *cell; (cell = trale_drain(self->engine)) != NULL;)
            XDECREF(run_queue_take_owner(cell));
        trale_close(self->engine);
        trale_free(self->engine);
    }
    XDECREF(self->simulation);
    XDECREF(self->fault);
    tpy_free_object(self);
}

static PyObject *RunQueue_context(RunQueue *self, PyObject *args)
{
    PyObject *task_id, *runtime;
    if (!PyArg_ParseTuple(args, "OO:context", &task_id, &runtime))
        return NULL;
    return (PyObject *)tpy_new_context(self, task_id, runtime);
}

static PyObject *RunQueue_push(RunQueue *self, PyObject *task)
{
    Waker *waker = tpy_waker_of(self, task);
    if (waker == NULL)
        return NULL;
    if (!tpy_push_task(self, waker, task))
        return PyErr_Format(PyExc_ValueError, "%R was pushed already", task);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_call(RunQueue *self, PyObject *function)
{
    trale_cell *cell = trale_cell_new(function, KIND_CALL);
    if (cell == NULL)
        return PyErr_NoMemory();
    INCREF(function);
    trale_push(self->engine, cell);
    trale_cell_unref(cell);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_put_to_wait(RunQueue *self, PyObject *task)
{
    Waker *waker = tpy_waker_of(self, task);
    if (waker == NULL)
        return NULL;
    if (!trale_wait_on(self->engine, waker->cell))
        return PyErr_Format(PyExc_ValueError, "%R is in the queue, or has ended", task);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_remove(RunQueue *self, PyObject *task)
{
    Waker *waker = tpy_waker_of(self, task);
    if (waker == NULL)
        return NULL;
    tpy_remove_task(self, waker);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_is_waiting(RunQueue *self, PyObject *task)
{
    Waker *waker = tpy_waker_of(self, task);
    return waker == NULL ? NULL : PyBool_FromLong(trale_is_waiting(self->engine, waker->cell));
}

static PyObject *RunQueue_live(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    return tpy_live_tasks(self);
}

/* R53: the wake of a deadline could not even be called, as memory was short. It comes once, so it is put
 * into the queue again. */
static void run_queue_wake_again(RunQueue *self, PyObject *owner)
{
    PyErr_Clear();
    trale_cell *cell = tpy_cell_for(owner);
    if (cell == NULL) {
        PyErr_WriteUnraisable(owner);
        return;
    }
    trale_wake(self->engine, cell);
    trale_cell_unref(cell);
}

/* Do what a cell that is no task asks for. Takes the reference. -1: a signal handler has raised. */
static int run_queue_make_owner(RunQueue *self, PyObject *owner, uint8_t kind)
{
    PyObject *call = kind == KIND_CALL ? Py_NewRef(owner) : PyObject_GetAttr(owner, run_queue_name_wake);
    PyObject *result = call == NULL ? NULL : PyObject_CallFunctionObjArgs(run_queue_make_published, call, NULL);
    int error = 0;
    if (result == NULL && !PyErr_ExceptionMatches(PyExc_MemoryError))
        error = -1;
    else if (result == NULL && kind == KIND_WAKE)
        run_queue_wake_again(self, owner);
    else if (result == NULL)
        PyErr_WriteUnraisable(owner);
    Py_XDECREF(result);
    Py_XDECREF(call);
    DECREF(owner);
    return error;
}

static PyObject *RunQueue_after_fork_in_child(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    trale_after_fork_in_child(self->engine);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_drain(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *tasks = PyList_New(0);
    if (tasks == NULL)
        return NULL;
    for (trale_cell *cell; (cell = trale_drain(self->engine)) != NULL;) {
        uint8_t kind = cell->kind;
        PyObject *owner = run_queue_take_owner(cell);
        if (owner == NULL)
            continue;
        if (kind != KIND_TASK) {
            if (run_queue_make_owner(self, owner, kind) < 0)
                PyErr_WriteUnraisable((PyObject *)self);
            continue;
        }
        Waker *waker = tpy_waker_of(self, owner);
        if (waker != NULL)
            tpy_remove_task(self, waker);
        int error = waker == NULL ? -1 : PyList_Append(tasks, owner);
        DECREF(owner);
        if (error < 0) {
            DECREF(tasks);
            return NULL;
        }
    }
    return tasks;
}

static PyObject *RunQueue_fail(RunQueue *self, PyObject *fault)
{
    if (!PyExceptionInstance_Check(fault)) {
        PyErr_Format(PyExc_TypeError, "fault must be an exception, not %R", fault);
        return NULL;
    }
    PyObject *before = self->fault;
    self->fault = Py_NewRef(fault);
    Py_XDECREF(before);
    trale_break(self->engine, EIO);
    Py_RETURN_NONE;
}

static PyObject *run_queue_raise_fault(RunQueue *self)
{
    PyObject *fault = self->fault;
    if (fault == NULL)
        return tpy_raise(-trale_broken(self->engine));
    self->fault = NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(fault), fault);
    Py_DECREF(fault);
    return NULL;
}

/* Before a batch: has asyncio been imported? It brings dozens of modules, so it is looked for only when
 * their number has changed. -1: an exception is set. */
static int run_queue_share(RunQueue *self)
{
    Py_ssize_t modules = PyDict_Size(run_queue_modules);
    if (self->shared || modules == self->modules)
        return 0;
    if (PyDict_GetItem(run_queue_modules, run_queue_ASYNCIO) == NULL) {
        self->modules = modules;
        return 0;
    }
    PyObject *shared = PyObject_CallNoArgs(run_queue_share_thread);
    self->shared = shared == Py_True;
    Py_XDECREF(shared);
    return shared == NULL ? -1 : 0;
}

/* The queue is empty. 1: look again, as the clock was set; -1: an exception is set. */
static int run_queue_idle(RunQueue *self)
{
    Simulation *simulation = self->simulation;
    if (simulation == NULL || tpy_is_none(simulation->on_idle))
        return 0;
    int64_t next = trale_next_timer(self->engine), now;
    bool is_set = trale_simulation_now(self->simulated, &now) && next != TRALE_NEVER;
    PyObject *deadline = is_set ? PyLong_FromLongLong(next) : Py_NewRef(Py_None);
    PyObject *answer =
        deadline == NULL ? NULL : PyObject_CallFunctionObjArgs(simulation->on_idle, deadline, NULL);
    Py_XDECREF(deadline);
    int again = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return again;
}

static PyObject *RunQueue_next_batch(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    for (;;) {
        size_t ready = trale_begin_batch(self->engine);
        if (trale_broken(self->engine) != 0)
            return run_queue_raise_fault(self);
        if (ready > 0)
            break;
        int again = run_queue_idle(self);
        if (again < 0)
            return NULL;
        if (again)
            continue;
        /* While another thread computes, giving up the GIL is to lose it for 5 ms. So if an answer
         * may come at any moment, that moment is waited for with the GIL. */
        if (self->contended && trale_wait_a_moment(self->engine))
            continue;
        int64_t woken;
        Py_BEGIN_ALLOW_THREADS
        trale_park(self->engine);
        woken = trale_now();
        Py_END_ALLOW_THREADS
        self->contended = trale_now() - woken > TPY_CONTENDED_NS;
    }
    if (run_queue_share(self) < 0)
        return NULL;
    if (self->simulation != NULL)
        trale_shuffle(self->engine, KIND_TASK);
    Batch *batch = (Batch *)PyType_GenericAlloc(Batch_type, 0);
    if (batch != NULL)
        batch->run_queue = NEWREF(RunQueue, self);
    return (PyObject *)batch;
}

static Py_ssize_t RunQueue_length(RunQueue *self)
{
    return (Py_ssize_t)trale_queued(self->engine);
}

static PyMethodDef RunQueue_methods[] = {
    {"context", (PyCFunction)RunQueue_context, METH_VARARGS, NULL},
    {"push", (PyCFunction)RunQueue_push, METH_O, NULL},
    {"call", (PyCFunction)RunQueue_call, METH_O, NULL},
    {"put_to_wait", (PyCFunction)RunQueue_put_to_wait, METH_O, NULL},
    {"remove", (PyCFunction)RunQueue_remove, METH_O, NULL},
    {"is_waiting", (PyCFunction)RunQueue_is_waiting, METH_O, NULL},
    {"live", (PyCFunction)RunQueue_live, METH_NOARGS, NULL},
    {"after_fork_in_child", (PyCFunction)RunQueue_after_fork_in_child, METH_NOARGS, NULL},
    {"drain", (PyCFunction)RunQueue_drain, METH_NOARGS, NULL},
    {"fail", (PyCFunction)RunQueue_fail, METH_O, NULL},
    {"next_batch", (PyCFunction)RunQueue_next_batch, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *RunQueue_get_simulation(RunQueue *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->simulation == NULL ? Py_None : (PyObject *)self->simulation);
}

static int RunQueue_set_simulation(RunQueue *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !PyObject_TypeCheck(value, tpy_Simulation)) {
        PyErr_Format(PyExc_TypeError, "simulation must be a Simulation, not %R", value == NULL ? Py_None : value);
        return -1;
    }
    if (self->simulation != NULL) {  /* the engine has it */
        PyErr_SetString(PyExc_RuntimeError, "it has a simulation");
        return -1;
    }
    self->simulation = NEWREF(Simulation, value);
    self->simulated = self->simulation->simulation;
    trale_simulate(self->engine, self->simulated);
    return 0;
}

static PyGetSetDef RunQueue_getset[] = {
    {"simulation", (getter)RunQueue_get_simulation, (setter)RunQueue_set_simulation, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot RunQueue_slots[] = {
    {Py_tp_new, RunQueue_new},
    {Py_tp_dealloc, RunQueue_dealloc},
    {Py_tp_methods, RunQueue_methods},
    {Py_tp_getset, RunQueue_getset},
    {Py_mp_length, RunQueue_length},
    {0, NULL},
};

static PyType_Spec RunQueue_spec = {
    .name = "trale_py._native.RunQueue",
    .basicsize = sizeof(RunQueue),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = RunQueue_slots,
};

/* ---- Batch ------------------------------------------------------------------------------------ */

static void Batch_dealloc(Batch *self)
{
    XDECREF(self->run_queue);
    tpy_free_object(self);
}

static PyObject *Batch_next(Batch *self)
{
    for (trale_cell *cell; (cell = trale_take(self->run_queue->engine)) != NULL;) {
        uint8_t kind = cell->kind;
        PyObject *owner = run_queue_take_owner(cell);
        if (owner == NULL)
            continue;
        if (kind == KIND_TASK)
            return owner;
        if (run_queue_make_owner(self->run_queue, owner, kind) < 0)
            break;
    }
    return NULL;
}

static PyType_Slot Batch_slots[] = {
    {Py_tp_dealloc, Batch_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, Batch_next},
    {0, NULL},
};

static PyType_Spec Batch_spec = {
    .name = "trale_py._native.Batch",
    .basicsize = sizeof(Batch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Batch_slots,
};

static const tpy_use run_queue_uses[] = {
    {TPY_USE_OBJECT, "trale_py.core.run_queue", "make_published", .place = &run_queue_make_published},
    {TPY_USE_OBJECT, "trale_py.core.run_queue", "share_thread", .place = &run_queue_share_thread},
    {TPY_USE_OBJECT, "trale_py.core.run_queue", "ASYNCIO", .place = &run_queue_ASYNCIO},
    {TPY_USE_OBJECT, "sys", "modules", .place = &run_queue_modules},
    {TPY_USE_NAME, "trale_py.core.timer_heap:Wakeable", "wake", .place = &run_queue_name_wake},
    {0},
};

const tpy_uses tpy_run_queue_uses = {"run_queue.c", .after = "Task", .table = run_queue_uses};

int tpy_add_run_queue(PyObject *module)
{
    if ((tpy_RunQueue = tpy_add_type(module, &RunQueue_spec, NULL)) == NULL
        || (Batch_type = tpy_add_type(module, &Batch_spec, NULL)) == NULL)
        return -1;
    return 0;
}
