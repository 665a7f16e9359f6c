/* The steps of a store: what is granted, and to whom. See store.h. */

#include "registry.h"
#include "store.h"

static PyObject *store_name_append, *store_name_appendleft, *store_name_popleft, *store_name_release;

void trale_wake_wait(Wait *self)
{
    PyObject *wake = self->wake;
    self->wake = NULL;
    if (wake == NULL)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyObject_TypeCheck(wake, trale_Waker)) {
        trale_wake(((Waker *)wake)->run_queue->engine, ((Waker *)wake)->cell);
    } else {  /* a thread's lock; if it is free already, that is as well */
        XDECREF(PyObject_CallMethodObjArgs(wake, store_name_release, NULL));
        PyErr_Clear();
    }
    DECREF(wake);
    PyErr_Restore(type, value, traceback);
}

void trale_replace(PyObject **place, PyObject *by)
{
    PyObject *old = *place;
    *place = by;
    XDECREF(old);
}

void trale_grant(Wait *self, PyObject *value)
{
    trale_leave_line(self);
    self->state = GRANTED;
    if (!self->gives)
        self->value = value;
    if (self->hold != NULL) {
        self->hold->held = 1;
        self->store->owner = Py_XNewRef(self->who);  /* it is NULL: the lock was free */
    }
}

int trale_put(Store *self, PyObject *value, int in_front)
{
    Wait *taker = trale_first(self->takers);
    if (taker != NULL) {
        trale_grant(taker, value);
        trale_wake_wait(taker);
        return 0;
    }
    if (self->values != NULL) {
        PyObject *name = in_front ? store_name_appendleft : store_name_append;
        PyObject *done = PyObject_CallMethodObjArgs(self->values, name, value, NULL);
        DECREF(value);
        if (done == NULL)
            return -1;
        DECREF(done);
    }
    self->count++;
    return 0;
}

bool trale_has_room(Store *self)
{
    Py_ssize_t room = self->capacity ? self->capacity : self->takers->length;
    return self->count < room - self->slots;
}

void trale_grant_slots(Store *self)
{
    if (self->givers == NULL)
        return;
    for (Wait *giver; (giver = trale_first(self->givers)) != NULL && trale_has_room(self);) {
        trale_leave_line(giver);
        giver->state = TURN;
        self->slots++;
        trale_wake_wait(giver);
    }
}

void trale_unlock(Hold *self)
{
    Store *mutex = self->mutex;
    if (!self->held)
        return;
    self->held = 0;
    PyObject *owner = mutex->owner;
    mutex->owner = NULL;
    trale_put(mutex, NULL, 0);
    XDECREF(owner);
}

void trale_close_store(Store *self)
{
    self->closed = 1;
    for (Wait *one; (one = trale_first(self->givers)) != NULL
                    || (one = trale_first(self->takers)) != NULL;) {
        trale_leave_line(one);
        trale_wake_wait(one);
    }
}

int trale_take_out(Store *self, PyObject **value)
{
    *value = NULL;
    if (self->values != NULL
        && (*value = PyObject_CallMethodObjArgs(self->values, store_name_popleft, NULL)) == NULL)
        return -1;
    self->count--;
    return 0;
}

static enum step store_attempt_to_take(Wait *self)
{
    Store *store = self->store;
    Wait *next = trale_first(store->takers);
    if (self->who != NULL && self->who == store->owner) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this mutex is locked already by who would wait for it");
        return FAILED;
    }
    if (next != NULL && next != self)
        return WAIT;
    if (store->count > 0) {
        PyObject *value;
        if (trale_take_out(store, &value) < 0)
            return FAILED;
        trale_grant(self, value);
        trale_grant_slots(store);
        return DONE;
    }
    if (store->closed)
        return trale_raise_closed(NULL);
    return WAIT;
}

static enum step store_attempt_to_give(Wait *self)
{
    Store *store = self->store;
    Wait *next = trale_first(store->givers);
    if (self->state == TURN) {
        store->slots--;
        self->state = TRYING;
    } else if (next != NULL && next != self) {
        return WAIT;
    }
    if (store->closed)
        return trale_raise_closed(self->value);
    if (!trale_has_room(store))  /* the taker who was the room has gone */
        return WAIT;
    trale_grant(self, NULL);
    if (trale_put(store, Py_NewRef(self->value), 0) < 0) {
        self->state = TRYING;
        return FAILED;
    }
    trale_grant_slots(store);  /* a taker had waited: the room is free again */
    return DONE;
}

enum step trale_look(Wait *self, PyObject *waker)
{
    if (self->state == GRANTED)
        return DONE;
    int had_turn = self->state == TURN;
    enum step now = self->gives ? store_attempt_to_give(self) : store_attempt_to_take(self);
    if (now != WAIT)
        return now;
    bool newcomer = self->link.next == NULL;
    if (newcomer)
        trale_enter_line(self, had_turn);
    trale_replace(&self->wake, Py_NewRef(waker));
    if (newcomer && !self->gives && self->store->capacity == 0)
        trale_grant_slots(self->store);
    return WAIT;
}

/* ---- Store: what its types have in common ----------------------------------------------------------- */

Store *trale_new_store(PyTypeObject *type)
{
    Store *self = (Store *)PyType_GenericAlloc(type, 0);
    if (self != NULL && (self->takers = trale_new_line()) == NULL)
        Py_CLEAR(self);
    return self;
}

int trale_store_traverse(Store *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->values);
    Py_VISIT(self->make);
    Py_VISIT(self->entered);
    return 0;
}

int trale_store_clear(Store *self)
{
    trale_replace(&self->entered, NULL);  /* a deque clears itself */
    return 0;
}

void trale_store_dealloc(Store *self)
{
    PyObject_GC_UnTrack(self);
    XDECREF(self->takers);
    XDECREF(self->givers);
    XDECREF(self->values);
    XDECREF(self->make);
    XDECREF(self->at_once);
    XDECREF(self->owner);
    XDECREF(self->entered);
    trale_free_object(self);
}

static const trale_use store_uses[] = {
    {TRALE_USE_NAME, "collections:deque", "append", .place = &store_name_append},
    {TRALE_USE_NAME, "collections:deque", "appendleft", .place = &store_name_appendleft},
    {TRALE_USE_NAME, "collections:deque", "popleft", .place = &store_name_popleft},
    {TRALE_USE_NAME, "_thread:LockType", "release", .place = &store_name_release},
    {0},
};

const trale_uses trale_store_uses = {"store.c", .after = "Permits", .table = store_uses};
