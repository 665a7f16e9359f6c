/* Waker and Context: see waker.py. */

#include "binding.h"

PyTypeObject *tpy_Waker, *tpy_Context;

/* ---- Waker ---------------------------------------------------------------------------------- */

static Waker *waker_make(PyTypeObject *type, RunQueue *run_queue, PyObject *task_id)
{
    Waker *self = (Waker *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->cell = trale_cell_new(NULL, KIND_TASK);
    if (self->cell == NULL) {
        DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    self->run_queue = NEWREF(RunQueue, run_queue);
    self->task_id = Py_NewRef(task_id);
    return self;
}

static PyObject *Waker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"run_queue", "task_id", NULL};
    PyObject *run_queue, *task_id;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O:Waker", names, tpy_RunQueue, &run_queue,
                                     &task_id))
        return NULL;
    return (PyObject *)waker_make(type, (RunQueue *)run_queue, task_id);
}

static void Waker_dealloc(Waker *self)
{
    if (self->cell != NULL)
        trale_cell_unref(self->cell);
    XDECREF(self->run_queue);
    XDECREF(self->task_id);
    tpy_free_object(self);
}

static PyObject *Waker_wake(Waker *self, PyObject *Py_UNUSED(ignored))
{
    trale_wake(self->run_queue->engine, self->cell);
    Py_RETURN_NONE;
}

static PyObject *Waker_will_wake(Waker *self, PyObject *other)
{
    if (!PyObject_TypeCheck(other, tpy_Waker)) {
        PyErr_Format(PyExc_TypeError, "other must be a Waker, not %R", other);
        return NULL;
    }
    return PyBool_FromLong(self->cell == ((Waker *)other)->cell);
}

static PyObject *Waker_richcompare(Waker *self, PyObject *other, int op)
{
    if (!PyObject_TypeCheck(other, tpy_Waker) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong((self->cell == ((Waker *)other)->cell) == (op == Py_EQ));
}

static Py_hash_t Waker_hash(Waker *self)
{
    Py_hash_t hash = (Py_hash_t)((uintptr_t)self->cell >> 4);
    return hash == -1 ? -2 : hash;
}

static PyObject *Waker_repr(Waker *self)
{
    return PyUnicode_FromFormat("<Waker of task %S>", self->task_id);
}

static PyMethodDef Waker_methods[] = {
    {"wake", (PyCFunction)Waker_wake, METH_NOARGS, NULL},
    {"will_wake", (PyCFunction)Waker_will_wake, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Waker_members[] = {
    {"_task_id", T_OBJECT, offsetof(Waker, task_id), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Waker_slots[] = {
    {Py_tp_new, Waker_new},
    {Py_tp_dealloc, Waker_dealloc},
    {Py_tp_methods, Waker_methods},
    {Py_tp_members, Waker_members},
    {Py_tp_richcompare, Waker_richcompare},
    {Py_tp_hash, Waker_hash},
    {Py_tp_repr, Waker_repr},
    {0, NULL},
};

static PyType_Spec Waker_spec = {
    .name = "trale_py._native.Waker",
    .basicsize = sizeof(Waker),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Waker_slots,
};

trale_cell *tpy_cell_for(PyObject *wakeable)
{
    if (PyObject_TypeCheck(wakeable, tpy_Waker)) {
        trale_cell *cell = ((Waker *)wakeable)->cell;
        trale_cell_ref(cell);
        return cell;
    }
    trale_cell *cell = trale_cell_new(wakeable, KIND_WAKE);
    if (cell == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    cell->state = TRALE_WAITING;  /* no other thread knows it yet */
    INCREF(wakeable);
    return cell;
}

void tpy_release_cell(trale_cell *cell)
{
    PyObject *owner = cell->kind == KIND_WAKE ? cell->owner : NULL;
    if (owner != NULL)
        cell->owner = NULL;
    trale_cell_unref(cell);
    XDECREF(owner);
}

/* ---- Context ----------------------------------------------------------------------------------- */

static PyObject *Context_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"waker", "runtime", NULL};
    PyObject *waker, *runtime;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O:Context", names, tpy_Waker, &waker,
                                     &runtime))
        return NULL;
    Context *self = (Context *)PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    self->waker = NEWREF(Waker, waker);
    self->runtime = Py_NewRef(runtime);
    return (PyObject *)self;
}

static void Context_dealloc(Context *self)
{
    XDECREF(self->waker);
    XDECREF(self->runtime);
    tpy_free_object(self);
}

static PyObject *Context_claim_end(Context *self, PyObject *Py_UNUSED(ignored))
{
    char was = self->ended;
    self->ended = 1;
    return PyBool_FromLong(!was);
}

static PyObject *Context_repr(Context *self)
{
    return PyUnicode_FromFormat("<Context %R>", self->waker);
}

static PyMethodDef Context_methods[] = {
    {"_claim_end", (PyCFunction)Context_claim_end, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Context_members[] = {
    {"waker", T_OBJECT_EX, offsetof(Context, waker), READONLY, NULL},
    {"_runtime", T_OBJECT_EX, offsetof(Context, runtime), READONLY, NULL},
    {"_budget", T_INT, offsetof(Context, budget), 0, NULL},
    {"_cancelled", T_BOOL, offsetof(Context, cancelled), 0, NULL},
    {"_last_look", T_BOOL, offsetof(Context, last_look), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot Context_slots[] = {
    {Py_tp_new, Context_new},
    {Py_tp_dealloc, Context_dealloc},
    {Py_tp_methods, Context_methods},
    {Py_tp_members, Context_members},
    {Py_tp_repr, Context_repr},
    {0, NULL},
};

static PyType_Spec Context_spec = {
    .name = "trale_py._native.Context",
    .basicsize = sizeof(Context),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Context_slots,
};

Context *tpy_new_context(RunQueue *run_queue, PyObject *task_id, PyObject *runtime)
{
    Context *self = (Context *)PyType_GenericAlloc(tpy_Context, 0);
    if (self == NULL)
        return NULL;
    self->runtime = Py_NewRef(runtime);
    self->waker = waker_make(tpy_Waker, run_queue, task_id);
    if (self->waker == NULL)
        Py_CLEAR(self);
    return self;
}

int tpy_add_waker(PyObject *module)
{
    if ((tpy_Waker = tpy_add_type(module, &Waker_spec, NULL)) == NULL
        || (tpy_Context = tpy_add_type(module, &Context_spec, NULL)) == NULL)
        return -1;
    return 0;
}
