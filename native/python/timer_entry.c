/* TimerEntry: see timer_heap.py. */

#include "binding.h"

PyTypeObject *tpy_TimerEntry;

void tpy_clear_timer(TimerEntry *self)
{
    trale_cell *cell = self->timer.cell;
    if (trale_clear_timer(self->run_queue->engine, &self->timer))
        tpy_release_cell(cell);
}

static void TimerEntry_dealloc(TimerEntry *self)
{
    tpy_clear_timer(self);
    XDECREF(self->run_queue);
    XDECREF(self->wakeable);
    tpy_free_object(self);
}

static PyObject *TimerEntry_waker(TimerEntry *self, void *Py_UNUSED(closure))
{
    bool set = trale_is_set(self->run_queue->engine, &self->timer);
    return Py_NewRef(set ? self->wakeable : Py_None);
}

static PyMemberDef TimerEntry_members[] = {
    {"deadline", T_LONGLONG, offsetof(TimerEntry, timer.deadline), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef TimerEntry_getset[] = {
    {"waker", (getter)TimerEntry_waker, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot TimerEntry_slots[] = {
    {Py_tp_dealloc, TimerEntry_dealloc},
    {Py_tp_members, TimerEntry_members},
    {Py_tp_getset, TimerEntry_getset},
    {0, NULL},
};

static PyType_Spec TimerEntry_spec = {
    .name = "trale_py._native.TimerEntry",
    .basicsize = sizeof(TimerEntry),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = TimerEntry_slots,
};

int tpy_add_timer_entry(PyObject *module)
{
    return (tpy_TimerEntry = tpy_add_type(module, &TimerEntry_spec, NULL)) == NULL ? -1 : 0;
}
