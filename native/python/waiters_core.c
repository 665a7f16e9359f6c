/* The steps of a core: what is granted, and to whom. See waiters_core.h. */

#include "registry.h"
#include "waiters_core.h"

static PyObject *waiters_core_name_append, *waiters_core_name_appendleft, *waiters_core_name_popleft, *waiters_core_name_release;

/* Of a thread: release its lock. If that is free already, it is as well. */
static void waiters_core_wake_thread(PyObject *lock)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    XDECREF(PyObject_CallMethodObjArgs(lock, waiters_core_name_release, NULL));
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
}

void tpy_wake_wait(Waiter *self)
{
    PyObject *wake = self->wake;
    self->wake = NULL;
    if (wake == NULL)
        return;
    if (Py_TYPE(wake) == tpy_Waker)
        trale_wake(((Waker *)wake)->run_queue->engine, ((Waker *)wake)->cell);
    else
        waiters_core_wake_thread(wake);
    DECREF(wake);
}

void tpy_replace(PyObject **place, PyObject *by)
{
    PyObject *old = *place;
    *place = by;
    XDECREF(old);
}

void tpy_grant(Waiter *self, PyObject *value)
{
    tpy_leave_line(self);
    self->state = GRANTED;
    if (!self->gives)
        self->value = value;
    if (self->guard != NULL) {
        self->guard->held = 1;
        self->core->owner = Py_XNewRef(self->owner);  /* it is NULL: the lock was free */
    }
}

int tpy_put(WaitersCore *self, PyObject *value, int in_front)
{
    Waiter *taker = tpy_first(self->takers);
    if (taker != NULL) {
        tpy_grant(taker, value);
        tpy_wake_wait(taker);
        return 0;
    }
    if (self->values != NULL) {
        PyObject *name = in_front ? waiters_core_name_appendleft : waiters_core_name_append;
        PyObject *done = PyObject_CallMethodObjArgs(self->values, name, value, NULL);
        DECREF(value);
        if (done == NULL)
            return -1;
        DECREF(done);
    }
    self->count++;
    return 0;
}

void tpy_put_permits(WaitersCore *self, Py_ssize_t n)
{
    self->count += n;
    for (Waiter *taker; (taker = tpy_first(self->takers)) != NULL && taker->n <= self->count;) {
        self->count -= taker->n;
        tpy_grant(taker, NULL);
        tpy_wake_wait(taker);
    }
}

bool tpy_has_room(WaitersCore *self)
{
    Py_ssize_t room = self->capacity ? self->capacity : self->takers->length;
    return self->count < room - self->slots;
}

void tpy_grant_slots(WaitersCore *self)
{
    if (self->givers == NULL)
        return;
    for (Waiter *giver; (giver = tpy_first(self->givers)) != NULL && tpy_has_room(self);) {
        tpy_leave_line(giver);
        giver->state = TURN;
        self->slots++;
        tpy_wake_wait(giver);
    }
}

void tpy_unlock(GuardCore *self)
{
    WaitersCore *mutex = self->mutex;
    if (!self->held)
        return;
    self->held = 0;
    PyObject *owner = mutex->owner;
    mutex->owner = NULL;
    tpy_put(mutex, NULL, 0);
    XDECREF(owner);
}

void tpy_close_core(WaitersCore *self)
{
    self->closed = 1;
    for (Waiter *one; (one = tpy_first(self->givers)) != NULL
                    || (one = tpy_first(self->takers)) != NULL;) {
        tpy_leave_line(one);
        tpy_wake_wait(one);
    }
}

int tpy_take_out(WaitersCore *self, PyObject **value)
{
    *value = NULL;
    if (self->values != NULL
        && (*value = PyObject_CallMethodObjArgs(self->values, waiters_core_name_popleft, NULL)) == NULL)
        return -1;
    self->count--;
    return 0;
}

static enum step waiters_core_attempt_to_take(Waiter *self)
{
    WaitersCore *core = self->core;
    Waiter *next = tpy_first(core->takers);
    if (self->owner != NULL && self->owner == core->owner) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this task already holds the mutex");
        return FAILED;
    }
    if (next != NULL && next != self)
        return WAIT;
    if (core->count >= self->n) {
        PyObject *value;
        if (tpy_take_out(core, &value) < 0)
            return FAILED;
        core->count -= self->n - 1;
        tpy_grant(self, value);
        tpy_grant_slots(core);
        return DONE;
    }
    if (core->closed)
        return tpy_raise_closed(NULL);
    return WAIT;
}

static enum step waiters_core_attempt_to_give(Waiter *self)
{
    WaitersCore *core = self->core;
    Waiter *next = tpy_first(core->givers);
    if (self->state == TURN) {
        core->slots--;
        self->state = TRYING;
    } else if (next != NULL && next != self) {
        return WAIT;
    }
    if (core->closed)
        return tpy_raise_closed(self->value);
    if (!tpy_has_room(core))  /* the taker that was the room has gone */
        return WAIT;
    tpy_grant(self, NULL);
    if (tpy_put(core, Py_NewRef(self->value), 0) < 0) {
        self->state = TRYING;
        return FAILED;
    }
    tpy_grant_slots(core);  /* a taker had waited: the room is free again */
    return DONE;
}

enum step tpy_try(Waiter *self)
{
    return self->gives ? waiters_core_attempt_to_give(self) : waiters_core_attempt_to_take(self);
}

enum step tpy_look(Waiter *self, PyObject *waker)
{
    if (self->state == GRANTED)
        return DONE;
    int had_turn = self->state == TURN;
    enum step now = tpy_try(self);
    if (now != WAIT)
        return now;
    bool newcomer = self->link.next == NULL;
    if (newcomer)
        tpy_enter_line(self, had_turn);
    tpy_replace(&self->wake, Py_NewRef(waker));
    if (newcomer && !self->gives && self->core->capacity == 0)
        tpy_grant_slots(self->core);
    return WAIT;
}

/* ---- WaitersCore: what its types have in common ----------------------------------------------------------- */

WaitersCore *tpy_new_core(PyTypeObject *type)
{
    WaitersCore *self = (WaitersCore *)PyType_GenericAlloc(type, 0);
    if (self != NULL && (self->takers = tpy_new_waiters()) == NULL)
        Py_CLEAR(self);
    return self;
}

int tpy_core_traverse(WaitersCore *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->values);
    Py_VISIT(self->make);
    Py_VISIT(self->entered);
    return 0;
}

int tpy_core_clear(WaitersCore *self)
{
    tpy_replace(&self->entered, NULL);  /* a deque clears itself */
    return 0;
}

void tpy_core_dealloc(WaitersCore *self)
{
    PyObject_GC_UnTrack(self);
    XDECREF(self->takers);
    XDECREF(self->givers);
    XDECREF(self->values);
    XDECREF(self->make);
    XDECREF(self->at_once);
    XDECREF(self->owner);
    XDECREF(self->entered);
    tpy_free_object(self);
}

static const tpy_use waiters_core_uses[] = {
    {TPY_USE_NAME, "collections:deque", "append", .place = &waiters_core_name_append},
    {TPY_USE_NAME, "collections:deque", "appendleft", .place = &waiters_core_name_appendleft},
    {TPY_USE_NAME, "collections:deque", "popleft", .place = &waiters_core_name_popleft},
    {TPY_USE_NAME, "_thread:LockType", "release", .place = &waiters_core_name_release},
    {0},
};

const tpy_uses tpy_waiters_core_uses = {"waiters_core.c", .after = "SemaphoreCore", .table = waiters_core_uses};
