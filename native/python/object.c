/* What all types here need, and the stable ABI does not have. */

#include "binding.h"

#include <errno.h>
#include <stdlib.h>

/* By default protocol 0 would make an object of no use, and copy() one that shares what is not shared. */
static PyObject *object_refuse_to_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_TypeError, "%R cannot be copied or pickled", Py_TYPE(self));
}

static PyMethodDef object_reduce = {"__reduce__", object_refuse_to_copy, METH_NOARGS, NULL};

static int object_add_reduce(PyObject *type)
{
    PyObject *method = PyDescr_NewMethod((PyTypeObject *)type, &object_reduce);
    int error = method == NULL ? -1 : PyObject_SetAttrString(type, object_reduce.ml_name, method);
    XDECREF(method);
    return error;
}

PyTypeObject *tpy_add_type(PyObject *module, PyType_Spec *spec, PyObject *base)
{
    PyObject *type = PyType_FromSpecWithBases(spec, base);
    if (type == NULL)
        return NULL;
    if (object_add_reduce(type) < 0 || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_DECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

void *tpy_new_object(PyTypeObject *type)
{
    if (type == NULL)
        return PyErr_Format(PyExc_RuntimeError, "trale_py is not imported, or uses its Python engine");
    return PyType_GenericAlloc(type, 0);
}

void *tpy_new_with_dict(PyTypeObject *type)
{
    newfunc make = (newfunc)PyType_GetSlot(&PyBaseObject_Type, Py_tp_new);
    PyObject *none = PyTuple_New(0);
    PyObject *self = none == NULL ? NULL : make(type, none, NULL);
    Py_XDECREF(none);
    return self;
}

int tpy_call_method(void *object, PyObject *name, void *argument)
{
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)object, name, argument, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

void tpy_free_object(void *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF((PyObject *)type);
}

PyObject *tpy_raise(int error)
{
    errno = abs(error);
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject **object_place_of(void *self, const tpy_field *field)
{
    return (PyObject **)((char *)self + field->offset);
}

PyObject *tpy_get_field(void *self, void *field)
{
    PyObject *value = *object_place_of(self, field);
    return Py_NewRef(value == NULL ? Py_None : value);
}

int tpy_set_field(void *self, PyObject *value, void *closure)
{
    const tpy_field *field = closure;
    if (value == NULL) {
        PyErr_Format(PyExc_TypeError, "%s cannot be deleted", field->name);
        return -1;
    }
    if (!PyObject_TypeCheck(value, *field->type) && !(field->may_be_empty && value == Py_None)) {
        PyErr_Format(PyExc_TypeError, "%s must be of %R%s, not %R", field->name, *field->type,
                     field->may_be_empty ? " or None" : "", value);
        return -1;
    }
    PyObject **place = object_place_of(self, field), *old = *place;
    *place = value == Py_None ? NULL : Py_NewRef(value);
    XDECREF(old);
    return 0;
}

int tpy_init_nothing(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args),
                       PyObject *Py_UNUSED(kwargs))
{
    return 0;
}
