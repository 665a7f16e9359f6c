/* What is asked when an object of Python's is dropped, which mostly has nothing to do then. And how
 * a Forgettable finds its attributes.
 *
 * R29: an exception in a __del__ is printed and gone. So a Ctrl-C that Python finds as a __del__ of
 * Python's begins is lost. These ask in C, and call the Python version if there is something to do. */

#include "leaf.h"
#include "registry.h"

static PyObject *finalizers_name_state, *finalizers_name_held;  /* see leaf.py, with_block.py */
static PyObject *finalizers_forgettable_del, *finalizers_releasable_del;  /* the Python versions */

/* The exception that is set, if any, is kept. */
static void finalizers_finalize(PyObject *self, PyObject *name, long due, PyObject *python_del)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *field = PyObject_GetAttr(self, name);
    if (field == NULL) {
        PyErr_Clear();  /* it was cut off in __init__ */
    } else if (PyLong_AsLong(field) == due) {
        PyObject *done = PyObject_CallFunctionObjArgs(python_del, self, NULL);
        if (done == NULL)
            PyErr_WriteUnraisable(python_del);
        XDECREF(done);
    }
    XDECREF(field);
    PyErr_Restore(type, value, traceback);
}

static void Forgettable_finalize(PyObject *self)
{
    finalizers_finalize(self, finalizers_name_state, NEW, finalizers_forgettable_del);
}

static void Releasable_finalize(PyObject *self)
{
    finalizers_finalize(self, finalizers_name_held, 1, finalizers_releasable_del);
}

static PyType_Slot Forgettable_slots[] = {
    {Py_tp_finalize, Forgettable_finalize},
    {Py_tp_getattro, tpy_leaf_getattr},
    {0, NULL},
};

static PyType_Spec Forgettable_spec = {
    .name = "trale_py._native.Forgettable",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = Forgettable_slots,
};

static PyType_Slot Releasable_slots[] = {
    {Py_tp_finalize, Releasable_finalize},
    {0, NULL},
};

static PyType_Spec Releasable_spec = {
    .name = "trale_py._native.Releasable",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = Releasable_slots,
};

static const tpy_use finalizers_forgettable_uses[] = {
    {TPY_USE_NUMBER, "trale_py.core.leaf", "NEW", .number = NEW},
    {TPY_USE_NAME, "trale_py.core.leaf:Leaf", "_state", .place = &finalizers_name_state},
    {TPY_USE_OBJECT, "Forgettable", "__del__", .place = &finalizers_forgettable_del},
    {0},
};

static const tpy_use finalizers_releasable_uses[] = {
    {TPY_USE_NAME, "Releasable", "_held", .place = &finalizers_name_held},
    {TPY_USE_OBJECT, "Releasable", "__del__", .place = &finalizers_releasable_del},
    {0},
};

const tpy_uses tpy_forgettable_uses = {
    "finalizers.c", .after = "Forgettable", .table = finalizers_forgettable_uses};
const tpy_uses tpy_releasable_uses = {"finalizers.c", .after = "Releasable", .table = finalizers_releasable_uses};

int tpy_add_finalizers(PyObject *module)
{
    if (tpy_add_type(module, &Forgettable_spec, NULL) == NULL
        || tpy_add_type(module, &Releasable_spec, NULL) == NULL)
        return -1;
    return 0;
}
