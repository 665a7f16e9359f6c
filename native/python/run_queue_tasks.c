/* The tasks of a RunQueue: what is live, and the waker of each. See run_queue.py. */

#include "registry.h"

static PyObject *run_queue_tasks_name_cx;

/* Have the waker's task live, and referred to, or no more. */
static void run_queue_tasks_link(Waker *self, PyObject *task)
{
    Waker *first = self->run_queue->live;
    self->cell->owner = Py_NewRef(task);
    if (first == NULL) {
        self->next = self->prev = self->run_queue->live = self;
    } else {
        self->next = first;
        self->prev = first->prev;
        self->next->prev = self->prev->next = self;
    }
    INCREF(self);
}

static void run_queue_tasks_unlink(Waker *self)
{
    if (self->next == NULL)
        return;
    if (self->next == self) {
        self->run_queue->live = NULL;
    } else {
        if (self->run_queue->live == self)
            self->run_queue->live = self->next;
        self->next->prev = self->prev;
        self->prev->next = self->next;
    }
    self->next = self->prev = NULL;
    PyObject *task = self->cell->owner;
    self->cell->owner = NULL;
    DECREF(self);
    DECREF(task);
}

/* The waker of a Task of this queue, borrowed: it lives as long as the task's context does. */
Waker *tpy_waker_of(RunQueue *self, PyObject *task)
{
    PyObject *cx = PyObject_GetAttr(task, run_queue_tasks_name_cx);
    if (cx == NULL)
        return NULL;
    if (!PyObject_TypeCheck(cx, tpy_Context)) {
        PyErr_Format(PyExc_TypeError, "%R has no Context", task);
        DECREF(cx);
        return NULL;
    }
    Waker *waker = ((Context *)cx)->waker;
    DECREF(cx);
    if (waker->run_queue != self) {
        PyErr_Format(PyExc_ValueError, "%R belongs to another run-queue", task);
        return NULL;
    }
    return waker;
}

bool tpy_push_task(RunQueue *self, Waker *waker, PyObject *task)
{
    if (!trale_push(self->engine, waker->cell))
        return false;
    run_queue_tasks_link(waker, task);  /* in time: no thread takes it out without the GIL */
    return true;
}

void tpy_remove_task(RunQueue *self, Waker *waker)
{
    trale_end(self->engine, waker->cell);
    run_queue_tasks_unlink(waker);
}

PyObject *tpy_live_tasks(RunQueue *self)
{
    PyObject *tasks = PyList_New(0);
    if (tasks == NULL || self->live == NULL)
        return tasks;
    Waker *waker = self->live;
    do {
        if (PyList_Append(tasks, waker->cell->owner) < 0) {
            DECREF(tasks);
            return NULL;
        }
        waker = waker->next;
    } while (waker != self->live);
    return tasks;
}

static const tpy_use run_queue_tasks_uses[] = {
    {TPY_USE_NAME, "Task", "_cx", .place = &run_queue_tasks_name_cx},
    {TPY_USE_NUMBER, "trale_py.core.task_state", "NEW", .number = TRALE_NEW},
    {TPY_USE_NUMBER, "trale_py.core.task_state", "WAITING", .number = TRALE_WAITING},
    {TPY_USE_NUMBER, "trale_py.core.task_state", "QUEUED", .number = TRALE_QUEUED},
    {TPY_USE_NUMBER, "trale_py.core.task_state", "TAKEN", .number = TRALE_TAKEN},
    {TPY_USE_NUMBER, "trale_py.core.task_state", "ENDED", .number = TRALE_ENDED},
    {0},
};

const tpy_uses tpy_run_queue_tasks_uses = {
    "run_queue_tasks.c", .after = "Task", .table = run_queue_tasks_uses};
