/* RunQueue, Waker, Context, and what a thread is doing: see run_queue.py, waker.py, current.py. */

#include "binding.h"

PyTypeObject *trale_RunQueue, *trale_Waker, *trale_Context;

/* An iterator over the tasks of a batch; the calls between them are made on the way. */
typedef struct {
    PyObject_HEAD
    RunQueue *run_queue;
} Batch;

/* Nobody who only passes through Python keeps the GIL for that long. */
#define CONTENDED_NS 1000000

static PyTypeObject *Batch_type;
static PyObject *make_call;  /* run_queue.make_call: it reports what goes wrong */
static PyObject *name_cx, *name_wake;

/* ---- Waker ---------------------------------------------------------------------------------- */

static Waker *make_waker(PyTypeObject *type, RunQueue *run_queue, PyObject *task_id)
{
    Waker *self = (Waker *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->cell = trale_cell_new(NULL, KIND_TASK);
    if (self->cell == NULL) {
        DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    self->run_queue = NEWREF(RunQueue, run_queue);
    self->task_id = Py_NewRef(task_id);
    return self;
}

static PyObject *Waker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"run_queue", "task_id", NULL};
    PyObject *run_queue, *task_id;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O:Waker", names, trale_RunQueue, &run_queue,
                                     &task_id))
        return NULL;
    return (PyObject *)make_waker(type, (RunQueue *)run_queue, task_id);
}

static void Waker_dealloc(Waker *self)
{
    if (self->cell != NULL)
        trale_cell_unref(self->cell);
    XDECREF(self->run_queue);
    XDECREF(self->task_id);
    trale_free_object(self);
}

static PyObject *Waker_wake(Waker *self, PyObject *Py_UNUSED(ignored))
{
    trale_wake(self->run_queue->engine, self->cell);
    Py_RETURN_NONE;
}

static PyObject *Waker_will_wake(Waker *self, PyObject *other)
{
    if (!PyObject_TypeCheck(other, trale_Waker)) {
        PyErr_Format(PyExc_TypeError, "other has to be a Waker, not %R", other);
        return NULL;
    }
    return PyBool_FromLong(self->cell == ((Waker *)other)->cell);
}

static PyObject *Waker_richcompare(Waker *self, PyObject *other, int op)
{
    if (!PyObject_TypeCheck(other, trale_Waker) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong((self->cell == ((Waker *)other)->cell) == (op == Py_EQ));
}

static Py_hash_t Waker_hash(Waker *self)
{
    Py_hash_t hash = (Py_hash_t)((uintptr_t)self->cell >> 4);
    return hash == -1 ? -2 : hash;
}

static PyObject *Waker_repr(Waker *self)
{
    return PyUnicode_FromFormat("<Waker of task %S>", self->task_id);
}

static PyMethodDef Waker_methods[] = {
    {"wake", (PyCFunction)Waker_wake, METH_NOARGS,
     "wake()\n--\n\nHave the task polled again. It will be, at least once, after this call.\n\n"
     "From any thread, a signal handler or a __del__; any number of times. Never\nwaits, never "
     "raises."},
    {"will_wake", (PyCFunction)Waker_will_wake, METH_O,
     "will_wake(other)\n--\n\nWhether ``other`` wakes the same task: then it need not be stored "
     "anew."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot Waker_slots[] = {
    {Py_tp_new, Waker_new},
    {Py_tp_doc, "Requeues one task of one runtime. Obtained from ``Context.waker``.\n\n"
                "A waker that outlives its task is inert, and keeps nothing of it alive. Wakers of\n"
                "the same task compare equal. See waker.py."},
    {Py_tp_dealloc, Waker_dealloc},
    {Py_tp_methods, Waker_methods},
    {Py_tp_richcompare, Waker_richcompare},
    {Py_tp_hash, Waker_hash},
    {Py_tp_repr, Waker_repr},
    {0, NULL},
};

static PyType_Spec Waker_spec = {
    .name = "trale_py._native.Waker",
    .basicsize = sizeof(Waker),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Waker_slots,
};

/* Have the waker's task live, and referred to, or no more. */
static void link_task(Waker *self, PyObject *task)
{
    Waker *first = self->run_queue->live;
    self->cell->owner = Py_NewRef(task);
    if (first == NULL) {
        self->next = self->prev = self->run_queue->live = self;
    } else {
        self->next = first;
        self->prev = first->prev;
        self->next->prev = self->prev->next = self;
    }
    INCREF(self);
}

static void unlink_task(Waker *self)
{
    if (self->next == NULL)
        return;
    if (self->next == self) {
        self->run_queue->live = NULL;
    } else {
        if (self->run_queue->live == self)
            self->run_queue->live = self->next;
        self->next->prev = self->prev;
        self->prev->next = self->next;
    }
    self->next = self->prev = NULL;
    PyObject *task = self->cell->owner;
    self->cell->owner = NULL;
    DECREF(self);
    DECREF(task);
}

trale_cell *trale_cell_for(PyObject *wakeable)
{
    if (PyObject_TypeCheck(wakeable, trale_Waker)) {
        trale_cell *cell = ((Waker *)wakeable)->cell;
        trale_cell_ref(cell);
        return cell;
    }
    trale_cell *cell = trale_cell_new(wakeable, KIND_WAKE);
    if (cell == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    cell->state = TRALE_WAITING;  /* nobody else knows it yet */
    INCREF(wakeable);
    return cell;
}

void trale_release_cell(trale_cell *cell)
{
    PyObject *owner = cell->kind == KIND_WAKE ? cell->owner : NULL;
    if (owner != NULL)
        cell->owner = NULL;
    trale_cell_unref(cell);
    XDECREF(owner);
}

/* ---- Context ----------------------------------------------------------------------------------- */

static PyObject *Context_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"waker", "runtime", NULL};
    PyObject *waker, *runtime;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O:Context", names, trale_Waker, &waker,
                                     &runtime))
        return NULL;
    Context *self = (Context *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->waker = NEWREF(Waker, waker);
    self->runtime = Py_NewRef(runtime);
    return (PyObject *)self;
}

static void Context_dealloc(Context *self)
{
    XDECREF(self->waker);
    XDECREF(self->runtime);
    trale_free_object(self);
}

static PyObject *Context_claim_end(Context *self, PyObject *Py_UNUSED(ignored))
{
    char was = self->ended;
    self->ended = 1;
    return PyBool_FromLong(!was);
}

static PyObject *Context_repr(Context *self)
{
    return PyUnicode_FromFormat("<Context %R>", self->waker);
}

static PyMethodDef Context_methods[] = {
    {"claim_end", (PyCFunction)Context_claim_end, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Context_members[] = {
    {"waker", T_OBJECT_EX, offsetof(Context, waker), READONLY, NULL},
    {"runtime", T_OBJECT_EX, offsetof(Context, runtime), READONLY, NULL},
    {"budget", T_INT, offsetof(Context, budget), 0, NULL},
    {"cancelled", T_BOOL, offsetof(Context, cancelled), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Context_slots[] = {
    {Py_tp_new, Context_new},
    {Py_tp_doc, "What a future is polled with: the waker of the task that is polling it.\n\n"
                "See waker.py."},
    {Py_tp_dealloc, Context_dealloc},
    {Py_tp_methods, Context_methods},
    {Py_tp_members, Context_members},
    {Py_tp_repr, Context_repr},
    {0, NULL},
};

static PyType_Spec Context_spec = {
    .name = "trale_py._native.Context",
    .basicsize = sizeof(Context),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Context_slots,
};

/* ---- what this thread is doing -------------------------------------------------------------------- */

/* Both are set and cleared by the thread itself, so a reference stays behind only in a thread that
 * is parked for ever. */
static _Thread_local PyObject *thread_runtime, *thread_context;

Context *trale_polling(void)
{
    return (Context *)thread_context;
}

static PyObject *get(PyObject *value)
{
    return Py_NewRef(value == NULL ? Py_None : value);
}

static int set(PyObject **place, PyObject *value)
{
    PyObject *old = *place;
    *place = value == NULL || value == Py_None ? NULL : Py_NewRef(value);
    XDECREF(old);
    return 0;
}

static PyObject *Thread_get_runtime(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return get(thread_runtime);
}

static int Thread_set_runtime(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    return set(&thread_runtime, value);
}

static PyObject *Thread_get_context(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return get(thread_context);
}

static int Thread_set_context(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    if (value != NULL && value != Py_None && !PyObject_TypeCheck(value, trale_Context)) {
        PyErr_Format(PyExc_TypeError, "context has to be a Context, not %R", value);
        return -1;
    }
    return set(&thread_context, value);
}

static PyGetSetDef Thread_getset[] = {
    {"runtime", Thread_get_runtime, Thread_set_runtime, NULL, NULL},
    {"context", Thread_get_context, Thread_set_context, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Thread_slots[] = {
    {Py_tp_getset, Thread_getset},
    {0, NULL},
};

static PyType_Spec Thread_spec = {
    .name = "trale_py._native.Thread",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Thread_slots,
};

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
static PyObject *take_owner(trale_cell *cell)
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
            XDECREF(take_owner(cell));
        trale_close(self->engine);
        trale_free(self->engine);
    }
    trale_free_object(self);
}

/* The waker of a Task, borrowed: it lives as long as the task's context does. */
static Waker *waker_of(PyObject *task)
{
    PyObject *cx = PyObject_GetAttr(task, name_cx);
    if (cx == NULL)
        return NULL;
    if (!PyObject_TypeCheck(cx, trale_Context)) {
        PyErr_Format(PyExc_TypeError, "%R has no Context", task);
        DECREF(cx);
        return NULL;
    }
    Waker *waker = ((Context *)cx)->waker;
    DECREF(cx);
    return waker;
}

static PyObject *RunQueue_context(RunQueue *self, PyObject *args)
{
    PyObject *task_id, *runtime;
    if (!PyArg_ParseTuple(args, "OO:context", &task_id, &runtime))
        return NULL;
    Context *cx = (Context *)PyType_GenericAlloc(trale_Context, 0);
    if (cx == NULL)
        return NULL;
    cx->runtime = Py_NewRef(runtime);
    cx->waker = make_waker(trale_Waker, self, task_id);
    if (cx->waker == NULL)
        Py_CLEAR(cx);
    return (PyObject *)cx;
}

static PyObject *RunQueue_push(RunQueue *self, PyObject *task)
{
    Waker *waker = waker_of(task);
    if (waker == NULL)
        return NULL;
    /* The ring and the queue have one place for each. */
    if (waker->next != NULL || waker->run_queue != self) {
        PyErr_Format(PyExc_ValueError, "%R %s", task,
                     waker->next != NULL ? "was pushed already" : "is of another run-queue");
        return NULL;
    }
    link_task(waker, task);
    trale_push(self->engine, waker->cell);
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
    Waker *waker = waker_of(task);
    if (waker == NULL)
        return NULL;
    trale_wait_on(self->engine, waker->cell);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_remove(RunQueue *self, PyObject *task)
{
    Waker *waker = waker_of(task);
    if (waker == NULL)
        return NULL;
    trale_end(self->engine, waker->cell);
    unlink_task(waker);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_is_waiting(RunQueue *self, PyObject *task)
{
    Waker *waker = waker_of(task);
    return waker == NULL ? NULL : PyBool_FromLong(trale_is_waiting(self->engine, waker->cell));
}

static PyObject *RunQueue_live(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *tasks = PyList_New(0);
    if (tasks == NULL || self->live == NULL)
        return tasks;
    Waker *waker = self->live;
    do {
        if (PyList_Append(tasks, waker->cell->owner) < 0) {
            DECREF(tasks);
            return NULL;
        }
        waker = waker->next;
    } while (waker != self->live);
    return tasks;
}

static void make(PyObject *call)
{
    PyObject *result = PyObject_CallFunctionObjArgs(make_call, call, NULL);
    if (result == NULL)
        PyErr_WriteUnraisable(call);
    XDECREF(result);
}

/* Do what a cell that is no task asks for. Takes the reference. */
static void make_owner(PyObject *owner, uint8_t kind)
{
    PyObject *call = kind == KIND_CALL ? Py_NewRef(owner) : PyObject_GetAttr(owner, name_wake);
    if (call == NULL)
        PyErr_WriteUnraisable(owner);
    else
        make(call);
    XDECREF(call);
    DECREF(owner);
}

static PyObject *RunQueue_stay_behind(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    trale_stay_behind(self->engine);
    Py_RETURN_NONE;
}

static PyObject *RunQueue_drain(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *tasks = PyList_New(0);
    if (tasks == NULL)
        return NULL;
    for (trale_cell *cell; (cell = trale_drain(self->engine)) != NULL;) {
        uint8_t kind = cell->kind;
        PyObject *owner = take_owner(cell);
        if (owner == NULL)
            continue;
        if (kind != KIND_TASK) {
            make_owner(owner, kind);
            continue;
        }
        Waker *waker = waker_of(owner);
        if (waker != NULL) {
            trale_end(self->engine, waker->cell);
            unlink_task(waker);
        }
        int error = waker == NULL ? -1 : PyList_Append(tasks, owner);
        DECREF(owner);
        if (error < 0) {
            DECREF(tasks);
            return NULL;
        }
    }
    return tasks;
}

static PyObject *RunQueue_next_batch(RunQueue *self, PyObject *Py_UNUSED(ignored))
{
    while (trale_begin_batch(self->engine) == 0) {
        /* While another thread computes, giving up the GIL is to lose it for 5 ms. So if an answer
         * may come at any moment, that moment is waited for with the GIL. */
        if (self->contended && trale_wait_a_moment(self->engine))
            continue;
        int64_t woken;
        Py_BEGIN_ALLOW_THREADS
        trale_park(self->engine);
        woken = trale_now();
        Py_END_ALLOW_THREADS
        self->contended = trale_now() - woken > CONTENDED_NS;
    }
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
    {"stay_behind", (PyCFunction)RunQueue_stay_behind, METH_NOARGS, NULL},
    {"drain", (PyCFunction)RunQueue_drain, METH_NOARGS, NULL},
    {"next_batch", (PyCFunction)RunQueue_next_batch, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot RunQueue_slots[] = {
    {Py_tp_new, RunQueue_new},
    {Py_tp_dealloc, RunQueue_dealloc},
    {Py_tp_methods, RunQueue_methods},
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
    trale_free_object(self);
}

static PyObject *Batch_next(Batch *self)
{
    for (trale_cell *cell; (cell = trale_take(self->run_queue->engine)) != NULL;) {
        uint8_t kind = cell->kind;
        PyObject *owner = take_owner(cell);
        if (owner == NULL)
            continue;
        if (kind == KIND_TASK)
            return owner;
        make_owner(owner, kind);
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

int trale_add_run_queue(PyObject *module)
{
    PyObject *python = PyImport_ImportModule("trale_py.run_queue");
    make_call = python == NULL ? NULL : PyObject_GetAttrString(python, "make_call");
    XDECREF(python);
    if (make_call == NULL || (name_cx = PyUnicode_InternFromString("cx")) == NULL
        || (name_wake = PyUnicode_InternFromString("wake")) == NULL
        || (trale_RunQueue = trale_add_type(module, &RunQueue_spec, NULL)) == NULL
        || (trale_Waker = trale_add_type(module, &Waker_spec, NULL)) == NULL
        || (trale_Context = trale_add_type(module, &Context_spec, NULL)) == NULL
        || (Batch_type = trale_add_type(module, &Batch_spec, NULL)) == NULL)
        return -1;
    PyTypeObject *Thread_type = trale_add_type(module, &Thread_spec, NULL);
    PyObject *thread = Thread_type == NULL ? NULL : PyType_GenericAlloc(Thread_type, 0);
    if (thread == NULL)
        return -1;
    return PyModule_AddObject(module, "thread", thread);
}
