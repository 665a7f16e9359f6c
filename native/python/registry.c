/* What is written in C too, and what C uses of Python: see core/engine.py. */

#include "registry.h"

#include <string.h>

static PyObject *registry_versions;  /* the Python versions of what was registered, by name */

/* "Task": what was registered by that name; "trale_py.core.future": a module; "types:FrameType": a name
 * in one. A new reference. */
static PyObject *registry_find_owner(const char *owner)
{
    PyObject *found = PyDict_GetItemString(registry_versions, owner);
    if (found != NULL)
        return Py_NewRef(found);
    const char *inside = strchr(owner, ':');
    size_t length = inside == NULL ? strlen(owner) : (size_t)(inside - owner);
    PyObject *path = PyUnicode_FromStringAndSize(owner, (Py_ssize_t)length);
    PyObject *module = path == NULL ? NULL : PyImport_GetModule(path);
    if (module == NULL && path != NULL && !PyErr_Occurred())
        module = PyImport_Import(path);
    Py_XDECREF(path);
    if (module == NULL || inside == NULL)
        return module;
    found = PyObject_GetAttrString(module, inside + 1);
    Py_DECREF(module);
    return found;
}

static int registry_check_number(PyObject *found, const tpy_uses *uses, const tpy_use *use)
{
    long long number = PyLong_AsLongLong(found);
    if (number == use->number && !PyErr_Occurred())
        return 0;
    PyErr_Clear();
    PyErr_Format(PyExc_ImportError, "%s has %lld for %s.%s, which is %R", uses->file,
                 use->number, use->owner, use->name, found);
    return -1;
}

static int registry_look_up(const tpy_uses *uses, const tpy_use *use)
{
    PyObject *owner = registry_find_owner(use->owner);
    PyObject *found = owner == NULL ? NULL
                      : use->name == NULL ? Py_NewRef(owner)
                      : PyObject_GetAttrString(owner, use->name);
    Py_XDECREF(owner);
    if (found == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ImportError,
                         "%s uses %s.%s, which does not exist: was it renamed in Python only, "
                         "or is the extension an old one?", uses->file, use->owner, use->name);
        }
        return -1;
    }
    int error = 0;
    if (use->what == TPY_USE_NUMBER)
        error = registry_check_number(found, uses, use);
    else if (use->what == TPY_USE_OBJECT)
        *use->place = Py_NewRef(found);
    else
        error = (*use->place = PyUnicode_InternFromString(use->name)) == NULL ? -1 : 0;
    Py_DECREF(found);
    return error;
}

/* Whether something here uses what has that name. */
static int registry_is_used(const tpy_uses *const *all, PyObject *name)
{
    for (; *all != NULL; all++)
        for (const tpy_use *use = (*all)->table; use->owner != NULL; use++)
            if (PyUnicode_CompareWithASCIIString(name, use->owner) == 0)
                return 1;
    return 0;
}

int tpy_prepare(const tpy_uses *const *all)
{
    for (; *all != NULL; all++)
        for (const tpy_use *use = (*all)->table; use->owner != NULL; use++)
            if (use->what == TPY_USE_OBJECT)
                *use->place = Py_NewRef(Py_None);
            else if (use->what == TPY_USE_NAME
                     && (*use->place = PyUnicode_InternFromString(use->name)) == NULL)
                return -1;
    return 0;
}

int tpy_register(PyObject *module, const tpy_uses *const *all, PyObject *name, PyObject *python,
                   PyObject *in_c)
{
    if (python == in_c && !registry_is_used(all, name)) {
        PyErr_Format(PyExc_ImportError, "%U is not in C: is the extension an old one?", name);
        return -1;
    }
    if (registry_versions == NULL && (registry_versions = PyDict_New()) == NULL)
        return -1;
    if (PyDict_GetItem(registry_versions, name) != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%R is in C, which already has it: its module cannot be "
                     "reloaded", python);
        return -1;
    }
    if (PyDict_SetItem(registry_versions, name, python) < 0)
        return -1;
    for (; *all != NULL; all++) {
        if (PyUnicode_CompareWithASCIIString(name, (*all)->after) != 0)
            continue;
        for (const tpy_use *use = (*all)->table; use->owner != NULL; use++)
            if (registry_look_up(*all, use) < 0)
                return -1;
        if ((*all)->then != NULL && (*all)->then(module) < 0)
            return -1;
    }
    return 0;
}

PyObject *tpy_call_python(PyObject *function, void *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords)
{
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_Size(keywords), first = self == NULL ? 0 : 1;
    PyObject *result = NULL, *positional = PyTuple_New(first + count), *by_name = PyDict_New();
    if (positional == NULL || by_name == NULL)
        goto out;
    if (self != NULL)
        PyTuple_SetItem(positional, 0, Py_NewRef((PyObject *)self));
    for (Py_ssize_t n = 0; n < count; n++)
        PyTuple_SetItem(positional, first + n, Py_NewRef(args[n]));
    for (Py_ssize_t n = 0; n < named; n++)
        if (PyDict_SetItem(by_name, PyTuple_GetItem(keywords, n), args[count + n]) < 0)
            goto out;
    result = PyObject_Call(function, positional, by_name);
out:
    Py_XDECREF(positional);
    Py_XDECREF(by_name);
    return result;
}
