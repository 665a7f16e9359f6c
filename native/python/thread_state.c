/* What a thread is doing: see thread_state.py. */

#include "registry.h"

/* All are set and cleared by the thread itself, so a reference stays behind only in a thread that
 * is parked for ever. */
/* In the thread's static block, where they are read without a call of __tls_get_addr. The loader keeps
 * room there for what is loaded late, of which these are three words. */
static _Thread_local PyObject *thread_state_runtime __attribute__((tls_model("initial-exec")));
static _Thread_local PyObject *thread_state_chosen __attribute__((tls_model("initial-exec")));
static _Thread_local PyObject *thread_state_context __attribute__((tls_model("initial-exec")));

static PyObject *thread_state_python_now_ns;

Context *tpy_polling(void)
{
    return (Context *)thread_state_context;
}

int64_t tpy_now(void)
{
    Context *cx = tpy_polling();
    return cx == NULL ? trale_now() : trale_time(cx->waker->run_queue->engine);
}

PyObject *tpy_now_ns(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (tpy_polling() == NULL)
        return PyObject_CallNoArgs(thread_state_python_now_ns);
    return PyLong_FromLongLong(tpy_now());
}

static int thread_state_set(PyObject **place, PyObject *value)
{
    PyObject *old = *place;
    *place = value == NULL || value == Py_None ? NULL : Py_NewRef(value);
    XDECREF(old);
    return 0;
}

void tpy_set_polling(Context *cx)
{
    thread_state_set(&thread_state_context, (PyObject *)cx);
}

PyObject *tpy_thread_runtime(void)
{
    return thread_state_runtime;
}

PyObject *tpy_thread_chosen(void)
{
    return thread_state_chosen;
}

static PyObject *thread_state_get(PyObject *value)
{
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *ThreadState_get_runtime(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return thread_state_get(thread_state_runtime);
}

static int ThreadState_set_runtime(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    return thread_state_set(&thread_state_runtime, value);
}

static PyObject *ThreadState_get_chosen(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return thread_state_get(thread_state_chosen);
}

static int ThreadState_set_chosen(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    return thread_state_set(&thread_state_chosen, value);
}

static PyObject *ThreadState_get_context(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return thread_state_get(thread_state_context);
}

static int ThreadState_set_context(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    if (value != NULL && value != Py_None && !PyObject_TypeCheck(value, tpy_Context)) {
        PyErr_Format(PyExc_TypeError, "context must be a Context, not %R", value);
        return -1;
    }
    return thread_state_set(&thread_state_context, value);
}

static PyGetSetDef ThreadState_getset[] = {
    {"runtime", ThreadState_get_runtime, ThreadState_set_runtime, NULL, NULL},
    {"chosen", ThreadState_get_chosen, ThreadState_set_chosen, NULL, NULL},
    {"context", ThreadState_get_context, ThreadState_set_context, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot ThreadState_slots[] = {
    {Py_tp_getset, ThreadState_getset},
    {0, NULL},
};

static PyType_Spec ThreadState_spec = {
    .name = "trale_py._native.ThreadState",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = ThreadState_slots,
};

static const tpy_use thread_state_uses[] = {
    {TPY_USE_OBJECT, "now_ns", NULL, .place = &thread_state_python_now_ns},
    {0},
};

const tpy_uses tpy_thread_state_uses = {"thread_state.c", .after = "now_ns", .table = thread_state_uses};

int tpy_add_thread_state(PyObject *module)
{
    return tpy_add_type(module, &ThreadState_spec, NULL) == NULL ? -1 : 0;
}
