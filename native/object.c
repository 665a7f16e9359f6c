/* What all types here need, and the stable ABI does not have. */

#include "binding.h"

#include <errno.h>
#include <stdlib.h>

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

int trale_set_typed(PyObject **field, PyObject *value, PyTypeObject *type)
{
    PyObject *old = *field;
    if (value != NULL && value != Py_None && !PyObject_TypeCheck(value, type)) {
        PyErr_Format(PyExc_TypeError, "%R is not of %R", value, type);
        return -1;
    }
    *field = trale_is_none(value) ? NULL : Py_NewRef(value);
    XDECREF(old);
    return 0;
}
