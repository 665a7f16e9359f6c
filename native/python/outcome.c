/* Outcome: see outcome.py. */

#include "task.h"

PyTypeObject *tpy_Outcome;

static void outcome_track_both(Outcome *self)
{
    tpy_track(self);
    tpy_track(self->handle);
}

Outcome *tpy_new_outcome(void)
{
    PyObject *self = PyType_GenericAlloc(tpy_classes.outcome, 0);
    if (self != NULL)
        PyObject_GC_UnTrack(self);
    return (Outcome *)self;
}

int tpy_succeed(Outcome *self, PyObject *value)
{
    PyObject *old = self->value;
    self->value = value;
    Py_XDECREF(old);
    if (value != NULL && PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_HAVE_GC))
        outcome_track_both(self);
    return tpy_open_latch(&self->latch);
}

static PyObject *Outcome_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"task_id", "name", "site", "unclaimed", NULL};
    PyObject *id, *name, *code, *unclaimed;
    int offset;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!(Oi)O!:Outcome", names, &id, &PyUnicode_Type,
                                     &name, &code, &offset, &PyDict_Type, &unclaimed))
        return NULL;
    Outcome *self = (Outcome *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->id = Py_NewRef(id);
    self->name = Py_NewRef(name);
    self->code = Py_NewRef(code);
    self->offset = offset;
    self->unclaimed = Py_NewRef(unclaimed);
    return (PyObject *)self;
}

static tpy_field Outcome_error = {
    "error", offsetof(Outcome, error), (PyTypeObject **)&PyExc_BaseException, true,
};

static int Outcome_set_error(Outcome *self, PyObject *error, void *field)
{
    if (tpy_set_field(self, error, field) < 0)
        return -1;
    if (self->error != NULL)
        outcome_track_both(self);
    return 0;
}

static PyObject *Outcome_succeed(Outcome *self, PyObject *value)
{
    if (tpy_succeed(self, Py_NewRef(value)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int Outcome_traverse(Outcome *self, visitproc visit, void *arg)
{
    Py_VISIT(self->error);
    Py_VISIT(self->value);
    Py_VISIT(self->traceback);
    return tpy_latch_traverse(&self->latch, visit, arg);
}

static int Outcome_clear(Outcome *self)
{
    Py_CLEAR(self->error);
    Py_CLEAR(self->value);
    Py_CLEAR(self->traceback);
    return tpy_latch_clear(&self->latch);
}

static void Outcome_dealloc(Outcome *self)
{
    PyObject_GC_UnTrack(self);
    Outcome_clear(self);
    XDECREF(self->id);
    XDECREF(self->name);
    XDECREF(self->code);
    XDECREF(self->unclaimed);
    tpy_free_object(self);
}

static PyMemberDef Outcome_members[] = {
    {"id", T_OBJECT, offsetof(Outcome, id), READONLY, NULL},
    {"name", T_OBJECT, offsetof(Outcome, name), READONLY, NULL},
    {"code", T_OBJECT, offsetof(Outcome, code), READONLY, NULL},
    {"offset", T_INT, offsetof(Outcome, offset), READONLY, NULL},
    {"abandoned", T_BOOL, offsetof(Outcome, abandoned), 0, NULL},
    {"cancelled", T_BOOL, offsetof(Outcome, cancelled), 0, NULL},
    {"_value", T_OBJECT, offsetof(Outcome, value), 0, NULL},
    {"_traceback", T_OBJECT, offsetof(Outcome, traceback), 0, NULL},
    {"_unclaimed", T_OBJECT, offsetof(Outcome, unclaimed), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef Outcome_methods[] = {
    {"succeed", (PyCFunction)Outcome_succeed, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Outcome_getset[] = {
    {"error", (getter)tpy_get_field, (setter)Outcome_set_error, NULL, &Outcome_error},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Outcome_slots[] = {
    {Py_tp_new, Outcome_new},
    {Py_tp_init, tpy_init_nothing},
    {Py_tp_traverse, Outcome_traverse},
    {Py_tp_clear, Outcome_clear},
    {Py_tp_dealloc, Outcome_dealloc},
    {Py_tp_methods, Outcome_methods},
    {Py_tp_members, Outcome_members},
    {Py_tp_getset, Outcome_getset},
    {0, NULL},
};

static PyType_Spec Outcome_spec = {
    .name = "trale_py._native.Outcome",
    .basicsize = sizeof(Outcome),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Outcome_slots,
};

int tpy_add_outcome(PyObject *module)
{
    tpy_Outcome = tpy_add_type(module, &Outcome_spec, (PyObject *)tpy_Latch);
    return tpy_Outcome == NULL ? -1 : 0;
}
