/* WithBlock: see with_block.py. */

#include "registry.h"

static PyObject *with_block_name_enter, *with_block_name_exit, *with_block_name_exit_again;

/* The exception that is set, as an object, or NULL. */
static PyObject *with_block_fetch(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* R28: a Ctrl-C that Python finds as _enter() or _exit() begins, or anywhere in it, comes out of it. */
static PyObject *with_block_again(PyObject *self, PyObject *exc)
{
    PyObject *error = with_block_fetch();
    PyObject *done = PyObject_CallMethodObjArgs(self, with_block_name_exit_again, error, exc, NULL);
    if (done != NULL) {
        DECREF(done);
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        DECREF(error);
        return NULL;
    }
    PyObject *second = with_block_fetch();
    PyException_SetContext(second, error);
    PyErr_SetObject((PyObject *)Py_TYPE(second), second);
    DECREF(second);
    return NULL;
}

static PyObject *WithBlock_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *entered = PyObject_CallMethodObjArgs(self, with_block_name_enter, NULL);
    return entered != NULL ? entered : with_block_again(self, Py_None);
}

static PyObject *WithBlock_exit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *exc = count > 1 ? args[1] : Py_None;
    PyObject *done = PyObject_CallMethodObjArgs(self, with_block_name_exit, exc, NULL);
    return done != NULL ? done : with_block_again(self, exc);
}

static PyMethodDef WithBlock_methods[] = {
    {"__enter__", (PyCFunction)WithBlock_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))WithBlock_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot WithBlock_slots[] = {
    {Py_tp_methods, WithBlock_methods},
    {0, NULL},
};

static PyType_Spec WithBlock_spec = {
    .name = "trale_py._native.WithBlock",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = WithBlock_slots,
};

static const tpy_use with_block_uses[] = {
    {TPY_USE_NAME, "WithBlock", "_enter", .place = &with_block_name_enter},
    {TPY_USE_NAME, "WithBlock", "_exit", .place = &with_block_name_exit},
    {TPY_USE_NAME, "WithBlock", "_exit_again", .place = &with_block_name_exit_again},
    {0},
};

const tpy_uses tpy_with_block_uses = {"with_block.c", .after = "WithBlock", .table = with_block_uses};

int tpy_add_with_block(PyObject *module)
{
    return tpy_add_type(module, &WithBlock_spec, NULL) == NULL ? -1 : 0;
}
