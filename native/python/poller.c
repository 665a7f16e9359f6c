/* Poller: see poller.py. */

#include "registry.h"
#include "simulation.h"
#include <errno.h>

typedef struct {
    PyObject_HEAD
    RunQueue *run_queue;
    PyObject *sources;  /* a dict, of what is watched, by descriptor */
} Poller;

static PyObject *Poller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"run_queue", NULL};
    PyObject *run_queue;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Poller", names, tpy_RunQueue, &run_queue))
        return NULL;
    Poller *self = (Poller *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->run_queue = NEWREF(RunQueue, run_queue);
    self->sources = PyDict_New();
    if (self->sources == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void Poller_dealloc(Poller *self)
{
    XDECREF(self->run_queue);
    XDECREF(self->sources);
    tpy_free_object(self);
}

static PyObject *poller_result_of(int error)
{
    if (error != 0)
        return tpy_raise(error);
    Py_RETURN_NONE;
}

static PyObject *Poller_open(Poller *self, PyObject *Py_UNUSED(ignored))
{
    return poller_result_of(trale_open(self->run_queue->engine));
}

static PyObject *Poller_close(Poller *self, PyObject *Py_UNUSED(ignored))
{
    trale_close(self->run_queue->engine);
    if (self->run_queue->simulation != NULL)
        Py_CLEAR(self->run_queue->simulation->on_idle);
    Py_RETURN_NONE;
}

static PyObject *Poller_after_fork_in_child(Poller *self, PyObject *Py_UNUSED(ignored))
{
    trale_after_fork_in_child(self->run_queue->engine);
    Py_RETURN_NONE;
}

static PyObject *Poller_run(Poller *self, PyObject *Py_UNUSED(ignored))
{
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = trale_run_reactor(self->run_queue->engine);
    Py_END_ALLOW_THREADS
    return poller_result_of(error);
}

static PyObject *Poller_stop(Poller *self, PyObject *Py_UNUSED(ignored))
{
    return poller_result_of(trale_stop_reactor(self->run_queue->engine));
}

/* Stop to watch, if it is watched still. */
static int poller_unwatch(Poller *self, Source *source)
{
    trale_source *s = source->source;
    if (s == NULL)
        return 0;
    PyObject *key = PyLong_FromLong(source->fd);
    if (key == NULL)  /* it can be tried again */
        return -1;
    source->source = NULL;
    trale_unwatch(self->run_queue->engine, s);
    int error = 0;
    if (PyDict_GetItemWithError(self->sources, key) == (PyObject *)source)
        error = PyDict_DelItem(self->sources, key);
    DECREF(key);
    return error;
}

static PyObject *Poller_watch(Poller *self, PyObject *number)
{
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fd != (int)fd) {
        PyErr_Format(PyExc_OverflowError, "fd must be a descriptor, not %ld", fd);
        return NULL;
    }
    PyObject *key = PyLong_FromLong(fd);  /* `number` may be anything with an __index__ */
    if (key == NULL)
        return NULL;
    Source *source = (Source *)PyType_GenericAlloc(tpy_Source, 0);
    if (source == NULL) {
        DECREF(key);
        return NULL;
    }
    source->run_queue = NEWREF(RunQueue, self->run_queue);
    source->fd = (int)fd;
    source->pollable = 1;
    int error = trale_watch(self->run_queue->engine, source->fd, &source->source);
    if (error == -EPERM) {
        source->pollable = 0;
        error = 0;
    } else if (error == -EEXIST) {  /* the number was closed, but the file lives on in a duplicate */
        error = trale_rearm(self->run_queue->engine, source->source);
    }
    if (error != 0)
        tpy_raise(error);
    if (error != 0 || PyDict_SetItem(self->sources, key, (PyObject *)source) < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        poller_unwatch(self, source);
        PyErr_Restore(type, value, traceback);
        Py_CLEAR(source);
    }
    DECREF(key);
    return (PyObject *)source;
}

static int poller_check_source(Poller *self, PyObject *source)
{
    if (!PyObject_TypeCheck(source, tpy_Source)) {
        PyErr_Format(PyExc_TypeError, "source must be a Source, not %R", source);
        return 0;
    }
    if (((Source *)source)->run_queue != self->run_queue) {
        PyErr_Format(PyExc_ValueError, "%R is watched by another poller", source);
        return 0;
    }
    return 1;
}

static PyObject *Poller_rearm(Poller *self, PyObject *source)
{
    if (!poller_check_source(self, source))
        return NULL;
    trale_source *s = ((Source *)source)->source;
    return PyBool_FromLong(s != NULL && trale_rearm(self->run_queue->engine, s) == 0);
}

static PyObject *Poller_watches(Poller *self, PyObject *source)
{
    if (!poller_check_source(self, source))
        return NULL;
    trale_source *s = ((Source *)source)->source;
    bool watches = !((Source *)source)->pollable
                   || (s != NULL && trale_watches(self->run_queue->engine, s));
    return PyBool_FromLong(watches);
}

static PyObject *Poller_unwatch(Poller *self, PyObject *source)
{
    if (!poller_check_source(self, source) || poller_unwatch(self, (Source *)source) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Poller_add_timer(Poller *self, PyObject *args)
{
    long long deadline;
    PyObject *wakeable;
    if (!PyArg_ParseTuple(args, "LO:add_timer", &deadline, &wakeable))
        return NULL;
    TimerEntry *entry = (TimerEntry *)PyType_GenericAlloc(tpy_TimerEntry, 0);
    if (entry == NULL)
        return NULL;
    entry->run_queue = NEWREF(RunQueue, self->run_queue);
    entry->wakeable = Py_NewRef(wakeable);
    trale_cell *cell = tpy_cell_for(wakeable);
    if (cell != NULL
        && trale_set_timer(self->run_queue->engine, &entry->timer, deadline, cell) != 0) {
        tpy_release_cell(cell);
        cell = NULL;
        PyErr_NoMemory();
    }
    if (cell == NULL)
        Py_CLEAR(entry);
    else
        trale_cell_unref(cell);
    return (PyObject *)entry;
}

static PyObject *Poller_cancel_timer(Poller *Py_UNUSED(self), PyObject *entry)
{
    if (!PyObject_TypeCheck(entry, tpy_TimerEntry)) {
        PyErr_Format(PyExc_TypeError, "entry must be a TimerEntry, not %R", entry);
        return NULL;
    }
    tpy_clear_timer((TimerEntry *)entry);
    Py_RETURN_NONE;
}

static PyObject *Poller_timers(Poller *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(trale_timers(self->run_queue->engine));
}

static PyObject *Poller_counts(Poller *self, PyObject *Py_UNUSED(ignored))
{
    trale_counts c;
    trale_count(self->run_queue->engine, &c);
    return Py_BuildValue("{sKsKsKsKsK}", "epoll_returns", c.epoll_returns, "events", c.events,
                         "stale", c.stale, "collected", c.collected, "parks", c.parks);
}

static PyMethodDef Poller_methods[] = {
    {"open", (PyCFunction)Poller_open, METH_NOARGS, NULL},
    {"close", (PyCFunction)Poller_close, METH_NOARGS, NULL},
    {"after_fork_in_child", (PyCFunction)Poller_after_fork_in_child, METH_NOARGS, NULL},
    {"run", (PyCFunction)Poller_run, METH_NOARGS, NULL},
    {"stop", (PyCFunction)Poller_stop, METH_NOARGS, NULL},
    {"watch", (PyCFunction)Poller_watch, METH_O, NULL},
    {"rearm", (PyCFunction)Poller_rearm, METH_O, NULL},
    {"watches", (PyCFunction)Poller_watches, METH_O, NULL},
    {"unwatch", (PyCFunction)Poller_unwatch, METH_O, NULL},
    {"add_timer", (PyCFunction)Poller_add_timer, METH_VARARGS, NULL},
    {"cancel_timer", (PyCFunction)Poller_cancel_timer, METH_O, NULL},
    {"counts", (PyCFunction)Poller_counts, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Poller_members[] = {
    {"sources", T_OBJECT_EX, offsetof(Poller, sources), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Poller_getset[] = {
    {"timers", (getter)Poller_timers, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Poller_slots[] = {
    {Py_tp_new, Poller_new},
    {Py_tp_dealloc, Poller_dealloc},
    {Py_tp_methods, Poller_methods},
    {Py_tp_members, Poller_members},
    {Py_tp_getset, Poller_getset},
    {0, NULL},
};

static PyType_Spec Poller_spec = {
    .name = "trale_py._native.Poller",
    .basicsize = sizeof(Poller),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Poller_slots,
};

static const tpy_use poller_uses[] = {
    {TPY_USE_NUMBER, "trale_py.base.durations", "NEVER", .number = TRALE_NEVER},
    {TPY_USE_NUMBER, "trale_py.core.poller", "BATCH", .number = TRALE_BATCH},
    {0},
};

const tpy_uses tpy_poller_uses = {"poller.c", .after = "Poller", .table = poller_uses};

int tpy_add_poller(PyObject *module)
{
    return tpy_add_type(module, &Poller_spec, NULL) == NULL ? -1 : 0;
}
