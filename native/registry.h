/* What C uses of Python, by name. Each C file has one table of it, which is looked up while the package
 * is imported. A name that is missing fails the import. */
#ifndef TRALE_REGISTRY_H
#define TRALE_REGISTRY_H

#include "binding.h"

enum trale_use_what {
    TRALE_USE_NAME,    /* an attribute: `place` gets the name, to call or read it by */
    TRALE_USE_OBJECT,  /* an object, or the Python version of a function: `place` gets it */
    TRALE_USE_NUMBER,  /* a constant, which must be `number` here too */
};

typedef struct {
    enum trale_use_what what;
    const char *owner;  /* an accelerated class, "module" or "module:name" */
    const char *name;   /* NULL: the owner itself */
    PyObject **place;
    long long number;
} trale_use;

typedef struct {
    const char *file;
    const char *after;  /* the accelerated class after whose registration all of it exists */
    int (*then)(PyObject *module);  /* what can be done then; or NULL */
    const trale_use *table;  /* ends in one without an owner */
} trale_uses;

/* In the order in which they are looked up. */
extern const trale_uses trale_poller_uses, trale_run_queue_uses, trale_leaf_uses, trale_latch_uses, trale_join_uses,
    trale_task_uses, trale_executor_uses,
    trale_runtime_uses, trale_store_uses, trale_waiters_uses, trale_lock_uses, trale_queue_uses, trale_io_uses,
    trale_operation_uses, trale_stream_uses, trale_with_block_uses, trale_forgettable_uses,
    trale_releasable_uses;

/* Before anything is registered: names are names, and objects are None, so that what is used with the
 * Python engine, which registers nothing, fails by an exception. */
int trale_prepare(const trale_uses *const *all);

/* A class or function that is in C too, or that is used here: note its Python version, and look up what
 * can be now. */
int trale_register(PyObject *module, const trale_uses *const *all, PyObject *name, PyObject *python,
                   PyObject *in_c);

/* Call a Python version with what the one in C was called with. `self`: NULL of a function. */
PyObject *trale_call_python(PyObject *function, void *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords);

#endif
