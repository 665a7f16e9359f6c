/* The module: what it holds, and what it is told of the package. */

#include "leaf.h"
#include "registry.h"
#include "simulation.h"
#include "waiters_core.h"
#include "task.h"

#include <string.h>

static const tpy_uses *const module_uses[] = {
    &tpy_poller_uses, &tpy_run_queue_uses, &tpy_run_queue_tasks_uses, &tpy_simulation_uses, &tpy_thread_state_uses, &tpy_leaf_uses, &tpy_latch_uses, &tpy_join_uses, &tpy_task_uses,
    &tpy_executor_uses, &tpy_runtime_uses,
    &tpy_waiters_core_uses, &tpy_waiters_uses, &tpy_semaphore_core_uses, &tpy_lock_core_uses, &tpy_queue_core_uses, &tpy_io_uses,
    &tpy_operation_uses, &tpy_base_stream_uses, &tpy_with_block_uses,
    &tpy_forgettable_uses, &tpy_releasable_uses, NULL,
};

/* register(python, in_c): a class or function, as it is in Python and as it is used from now on. */
static PyObject *module_register(PyObject *module, PyObject *args)
{
    PyObject *python, *in_c;
    if (!PyArg_ParseTuple(args, "OO:register", &python, &in_c))
        return NULL;
    PyObject *name = PyObject_GetAttrString(python, "__name__");
    int error = name == NULL ? -1 : tpy_register(module, module_uses, name, python, in_c);
    Py_XDECREF(name);
    if (error < 0)
        return NULL;
    if (PyType_Check(in_c))
        tpy_made((PyTypeObject *)in_c);
    Py_RETURN_NONE;
}

static PyObject *module_document(PyObject *module, PyObject *args);

static PyMethodDef module_functions[] = {
    {"register", module_register, METH_VARARGS, NULL},
    {"spawn", TPY_FAST(tpy_spawn), NULL},
    {"now_ns", tpy_now_ns, METH_NOARGS, NULL},
    {"block", TPY_FAST(tpy_block_function), NULL},
    {"document", module_document, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* document(owner, name, doc): of a function, method or property that is written in Python too. */
static PyObject *module_document(PyObject *module, PyObject *args)
{
    PyObject *owner;
    const char *name, *doc;
    if (!PyArg_ParseTuple(args, "Oss:document", &owner, &name, &doc))
        return NULL;
    PyMethodDef *method = module_functions;
    PyGetSetDef *property = NULL;
    if (owner != module) {
        if (!PyType_Check(owner))
            return PyErr_Format(PyExc_TypeError, "owner must be a type, not %R", owner);
        method = PyType_GetSlot((PyTypeObject *)owner, Py_tp_methods);
        property = PyType_GetSlot((PyTypeObject *)owner, Py_tp_getset);
    }
    for (; method != NULL && method->ml_name != NULL; method++)
        if (strcmp(method->ml_name, name) == 0 && method->ml_doc == NULL)
            method->ml_doc = strdup(doc);
    for (; property != NULL && property->name != NULL; property++)
        if (strcmp(property->name, name) == 0 && property->doc == NULL)
            property->doc = strdup(doc);
    Py_RETURN_NONE;
}

/* parts: of these only a part is in C, which is the base of the Python class. */
static int module_add_parts(PyObject *module)
{
    PyObject *parts = Py_BuildValue("ssssssssss", "BaseStream", "Executor", "Forgettable", "JoinHandle", "Latch",
                                    "Outcome", "Runtime", "Releasable", "Task", "WithBlock");
    int error = PyModule_AddObjectRef(module, "parts", parts);
    Py_XDECREF(parts);
    return error;
}

/* They add the types, a base before what is derived from it. */
static int (*const module_adders[])(PyObject *) = {
    tpy_add_simulation,
    tpy_add_run_queue,
    tpy_add_waker,
    tpy_add_thread_state,
    tpy_add_source,
    tpy_add_timer_entry,
    tpy_add_poller,
    tpy_add_io,
    tpy_add_latch,
    tpy_add_outcome,
    tpy_add_join,
    tpy_add_task,
    tpy_add_executor,
    tpy_add_runtime,
    tpy_add_waiters,
    tpy_add_semaphore_core,
    tpy_add_lock_core,
    tpy_add_queue_core,
    tpy_add_with_block,
    tpy_add_finalizers,
    module_add_parts,
};

/* What the engine knows of Python (types, names, classes of the package) is kept in variables: there is
 * one of each in a process. So the module is executed once, and in the main interpreter. */
static int module_execute(PyObject *module)
{
    static bool executed;
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError, "trale_py cannot be used in a subinterpreter");
        return -1;
    }
    if (executed) {
        PyErr_SetString(PyExc_ImportError,
                        "it belongs to the first import of trale_py in this process");
        return -1;
    }
    if (tpy_prepare(module_uses) < 0)
        return -1;
    for (size_t n = 0; n < sizeof module_adders / sizeof *module_adders; n++)
        if (module_adders[n](module) < 0)
            return -1;
    executed = true;
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_execute},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "trale_py._native",
    .m_doc = "The run-queue, the poller and the socket operations, in C. See native/python/binding.h.",
    .m_methods = module_functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module_definition);
}
