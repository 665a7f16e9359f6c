/* What C uses of Python, by name. Each C file has one table of it, which is looked up while the package
 * is imported. A name that is missing fails the import. */
#ifndef TPY_REGISTRY_H
#define TPY_REGISTRY_H

#include "binding.h"

enum tpy_use_what {
    TPY_USE_NAME,    /* an attribute: `place` gets the name, to call or read it by */
    TPY_USE_OBJECT,  /* an object, or the Python version of a function: `place` gets it */
    TPY_USE_NUMBER,  /* a constant, which must be `number` here too */
};

typedef struct {
    enum tpy_use_what what;
    const char *owner;  /* an accelerated class, "module" or "module:name" */
    const char *name;   /* NULL: the owner itself */
    PyObject **place;
    long long number;
} tpy_use;

typedef struct {
    const char *file;
    const char *after;  /* the accelerated class after whose registration all of it exists */
    int (*then)(PyObject *module);  /* what can be done then; or NULL */
    const tpy_use *table;  /* ends in one without an owner */
} tpy_uses;

/* In the order in which they are looked up. */
extern const tpy_uses tpy_poller_uses, tpy_run_queue_uses, tpy_run_queue_tasks_uses, tpy_leaf_uses, tpy_latch_uses, tpy_join_uses,
    tpy_task_uses, tpy_executor_uses,
    tpy_runtime_uses, tpy_waiters_core_uses, tpy_waiters_uses, tpy_semaphore_core_uses, tpy_lock_core_uses, tpy_queue_core_uses, tpy_io_uses,
    tpy_operation_uses, tpy_base_stream_uses, tpy_with_block_uses, tpy_forgettable_uses,
    tpy_releasable_uses, tpy_simulation_uses, tpy_thread_state_uses;

/* Before anything is registered: names are names, and objects are None, so that what is used with the
 * Python engine, which registers nothing, fails by an exception. */
int tpy_prepare(const tpy_uses *const *all);

/* A class or function that is in C too, or that is used here: note its Python version, and look up what
 * can be now. */
int tpy_register(PyObject *module, const tpy_uses *const *all, PyObject *name, PyObject *python,
                   PyObject *in_c);

/* Call a Python version with what the one in C was called with. `self`: NULL of a function. */
PyObject *tpy_call_python(PyObject *function, void *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords);

#endif
