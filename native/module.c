#include "store.h"
#include "task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

PyTypeObject *trale_add_type(PyObject *module, PyType_Spec *spec, PyObject *base)
{
    PyObject *type = PyType_FromSpecWithBases(spec, base);
    if (type == NULL)
        return NULL;
    if (PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_DECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

void trale_free_object(void *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF((PyObject *)type);
}

PyObject *trale_raise(int error)
{
    errno = abs(error);
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *document(PyObject *module, PyObject *args);

static PyMethodDef functions[] = {
    {"set_up_futures", trale_set_up_futures, METH_VARARGS, NULL},
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
