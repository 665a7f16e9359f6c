/* Source: see source.py. */

#include "registry.h"
#include <errno.h>

PyTypeObject *tpy_Source;

/* A waker that no socket of ours has put there, see Registration. */
typedef struct {
    trale_waiter waiter[2];  /* TRALE_READ, TRALE_WRITE */
} Entry;

static void source_stop_waiting(Source *self, trale_waiter *waiter)
{
    trale_cell *cell = waiter->cell;
    if (trale_stop_waiting(self->run_queue->engine, waiter))
        tpy_release_cell(cell);
}

static void source_free_entry(Source *self, PyObject *address)
{
    Entry *entry = PyLong_AsVoidPtr(address);
    source_stop_waiting(self, &entry->waiter[TRALE_READ]);
    source_stop_waiting(self, &entry->waiter[TRALE_WRITE]);
    PyMem_Free(entry);
}

/* Keys are compared by identity, and not referred to. -1 with an exception set. */
static int source_discard(Source *self, PyObject *key)
{
    if (self->entries == NULL)
        return 0;
    PyObject *id = PyLong_FromVoidPtr(key);
    PyObject *address = id == NULL ? NULL : PyDict_GetItemWithError(self->entries, id);
    int error = 0;
    if (address != NULL) {
        INCREF(address);
        error = PyDict_DelItem(self->entries, id);
        if (error == 0)
            source_free_entry(self, address);
        DECREF(address);
    } else if (PyErr_Occurred()) {
        error = -1;
    }
    XDECREF(id);
    return error;
}

static Entry *source_new_entry(Source *self, PyObject *key)
{
    if (self->entries == NULL && (self->entries = PyDict_New()) == NULL)
        return NULL;
    Entry *entry = PyMem_Calloc(1, sizeof *entry);
    if (entry == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *id = PyLong_FromVoidPtr(key), *address = PyLong_FromVoidPtr(entry);
    if (id == NULL || address == NULL || PyDict_SetItem(self->entries, id, address) < 0) {
        PyMem_Free(entry);
        entry = NULL;
    }
    XDECREF(id);
    XDECREF(address);
    return entry;
}

static int source_wait_for(Source *self, Entry *entry, PyObject *wakeable, int direction)
{
    trale_cell *cell = tpy_cell_for(wakeable);
    if (cell == NULL)
        return -1;
    trale_add_waiter(self->run_queue->engine, &self->source->direction[direction],
                     &entry->waiter[direction], cell);
    trale_cell_unref(cell);
    return 0;
}

static PyObject *Source_add(Source *self, PyObject *args)
{
    PyObject *key, *wakeable;
    int read, write;
    if (!PyArg_ParseTuple(args, "OOpp:add", &key, &wakeable, &read, &write))
        return NULL;
    if (self->source == NULL) {
        PyErr_SetString(PyExc_ValueError, "this source is no longer watched");
        return NULL;
    }
    if (source_discard(self, key) < 0)
        return NULL;
    Entry *entry = source_new_entry(self, key);
    if (entry == NULL)
        return NULL;
    if ((read && source_wait_for(self, entry, wakeable, TRALE_READ) < 0)
        || (write && source_wait_for(self, entry, wakeable, TRALE_WRITE) < 0)) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        source_discard(self, key);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *Source_discard(Source *self, PyObject *key)
{
    if (source_discard(self, key) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static void Source_dealloc(Source *self)
{
    PyObject *key, *address;
    for (Py_ssize_t place = 0;
         self->entries != NULL && PyDict_Next(self->entries, &place, &key, &address);)
        source_free_entry(self, address);
    XDECREF(self->entries);
    XDECREF(self->run_queue);
    tpy_free_object(self);
}

static PyObject *Source_repr(Source *self)
{
    return PyUnicode_FromFormat("<Source fd=%d users=%d>", self->fd, self->users);
}

static PyMethodDef Source_methods[] = {
    {"add", (PyCFunction)Source_add, METH_VARARGS, NULL},
    {"discard", (PyCFunction)Source_discard, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *Source_gone(Source *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->source == NULL);
}

static PyGetSetDef Source_getset[] = {
    {"gone", (getter)Source_gone, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef Source_members[] = {
    {"fd", T_INT, offsetof(Source, fd), READONLY, NULL},
    {"users", T_INT, offsetof(Source, users), 0, NULL},
    {"pollable", T_BOOL, offsetof(Source, pollable), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Source_slots[] = {
    {Py_tp_dealloc, Source_dealloc},
    {Py_tp_methods, Source_methods},
    {Py_tp_members, Source_members},
    {Py_tp_getset, Source_getset},
    {Py_tp_repr, Source_repr},
    {0, NULL},
};

static PyType_Spec Source_spec = {
    .name = "trale_py._native.Source",
    .basicsize = sizeof(Source),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Source_slots,
};

int tpy_add_source(PyObject *module)
{
    return (tpy_Source = tpy_add_type(module, &Source_spec, NULL)) == NULL ? -1 : 0;
}
