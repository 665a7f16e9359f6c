/* Simulation, for the types that come across one: see simulation.py. */
#ifndef TPY_SIMULATION_H
#define TPY_SIMULATION_H

#include "binding.h"

typedef struct Simulation {
    PyObject_HEAD
    trale_simulation *simulation;
    PyObject *on_idle;  /* or NULL; the poller clears it at its end, as it may refer to the runtime */
    char seeded;
} Simulation;

extern PyTypeObject *tpy_Simulation;

/* A call is about to be made. -errno: it was planned to fail. 0: make it, for `size` bytes. */
int tpy_take_call(trale_simulation *s, enum trale_call call, int fd, Py_ssize_t *size);

int tpy_add_simulation(PyObject *module);

#endif
