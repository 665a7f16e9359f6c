/* The module: what it holds, and what it is told of the package. */

#include "leaf.h"
#include "store.h"
#include "task.h"

#include <string.h>

/* set_up_futures(Future, Ready, PENDING, BusyResourceError): what leaves are made of. */
static PyObject *set_up_futures(PyObject *module, PyObject *args)
{
    PyObject *base, *ready, *pending, *busy;
    if (!PyArg_ParseTuple(args, "OOOO:set_up_futures", &base, &ready, &pending, &busy))
        return NULL;
    trale_set_up_leaves(ready, pending);
    trale_set_up_io(busy);
    if (trale_set_up_operations(module, base) < 0 || trale_set_up_sleep(module, base) < 0
        || trale_set_up_latch_wait(module, base) < 0 || trale_set_up_yield(module, base) < 0
        || trale_set_up_waits(module, base) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *document(PyObject *module, PyObject *args);

static PyMethodDef functions[] = {
    {"set_up_futures", set_up_futures, METH_VARARGS, NULL},
    {"set_up_spawn", trale_set_up_spawn, METH_O, NULL},
    {"set_up_queues", trale_set_up_queues, METH_VARARGS, NULL},
    {"spawn", TRALE_FAST(trale_spawn), NULL},
    {"document", document, METH_VARARGS, NULL},
    {"made", trale_made, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

/* document(owner, name, doc): of a method or function that is written in Python too, with its text. */
static PyObject *document(PyObject *module, PyObject *args)
{
    PyObject *owner;
    const char *name, *doc;
    if (!PyArg_ParseTuple(args, "Oss:document", &owner, &name, &doc))
        return NULL;
    PyMethodDef *method = owner == module ? functions
                          : PyType_Check(owner)
                              ? PyType_GetSlot((PyTypeObject *)owner, Py_tp_methods) : NULL;
    for (; method != NULL && method->ml_name != NULL; method++)
        if (strcmp(method->ml_name, name) == 0 && method->ml_doc == NULL)
            method->ml_doc = strdup(doc);
    Py_RETURN_NONE;
}

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "trale_py._native",
    .m_doc = "The run-queue, the poller and the socket operations, in C. See native/binding.h.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (trale_add_run_queue(module) < 0 || trale_add_waker(module) < 0
        || trale_add_poller(module) < 0 || trale_add_io(module) < 0
        || trale_add_outcome(module) < 0 || trale_add_task(module) < 0
        || trale_add_store(module) < 0 || trale_add_permits(module) < 0
        || trale_add_queue(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
