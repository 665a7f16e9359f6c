#include "registry.h"
#include "store.h"

static PyTypeObject *Line_type, *Wait_type;
static PyObject *store_name_append, *store_name_appendleft, *store_name_popleft, *store_name_release;
static PyObject *park, *python_block;  /* the package's */

/* ---- lines ------------------------------------------------------------------------------------ */

Wait *trale_first(Line *line)
{
    Link *link = line->ring.next;
    return link == &line->ring ? NULL : (Wait *)((char *)link - offsetof(Wait, link));
}

static Line *store_line_of(Wait *self)
{
    return self->gives ? self->store->givers : self->store->takers;
}

/* At its end or, who had its turn already, at its front. */
static void store_enter(Wait *self, int in_front)
{
    Link *ring = &store_line_of(self)->ring, *next = in_front ? ring->next : ring, *link = &self->link;
    link->next = next;
    link->prev = next->prev;
    link->prev->next = next->prev = link;
    store_line_of(self)->length++;
}

static void store_leave(Wait *self)
{
    Link *link = &self->link;
    if (link->next == NULL)
        return;
    link->next->prev = link->prev;
    link->prev->next = link->next;
    link->next = link->prev = NULL;
    store_line_of(self)->length--;
}

static Py_ssize_t Line_length(Line *self)
{
    return self->length;
}

Line *trale_new_line(void)
{
    Line *self = (Line *)PyType_GenericAlloc(Line_type, 0);
    if (self != NULL)
        self->ring.next = self->ring.prev = &self->ring;
    return self;
}

/* ---- steps: what is granted, and to whom ---------------------------------------------------------- */

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
    store_leave(self);
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
        store_leave(giver);
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
        store_leave(one);
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

static enum step store_look(Wait *self, PyObject *waker)
{
    if (self->state == GRANTED)
        return DONE;
    int had_turn = self->state == TURN;
    enum step now = self->gives ? store_attempt_to_give(self) : store_attempt_to_take(self);
    if (now != WAIT)
        return now;
    bool newcomer = self->link.next == NULL;
    if (newcomer)
        store_enter(self, had_turn);
    trale_replace(&self->wake, Py_NewRef(waker));
    if (newcomer && !self->gives && self->store->capacity == 0)
        trale_grant_slots(self->store);
    return WAIT;
}

/* ---- Wait: a leaf, or what a thread waits by -------------------------------------------------------- */

static PyObject *store_take_result(Wait *self)
{
    if (self->state != GRANTED)
        Py_RETURN_NONE;
    self->state = TRYING;
    if (self->hold != NULL) {
        if (self->enters)
            trale_replace(&self->store->entered, Py_NewRef((PyObject *)self->hold));
        return Py_NewRef((PyObject *)self->hold);
    }
    if (self->gives || self->value == NULL)
        Py_RETURN_NONE;
    PyObject *value = self->value;
    self->value = NULL;
    return value;
}

static enum step store_advance(Leaf *leaf, Context *cx, PyObject **result)
{
    Wait *self = (Wait *)leaf;
    if (self->hold != NULL)
        trale_replace(&self->who, Py_NewRef((PyObject *)cx));
    enum step now = store_look(self, (PyObject *)cx->waker);
    if (now == DONE)
        *result = store_take_result(self);
    return now;
}

static void store_drop(Leaf *leaf)
{
    Wait *self = (Wait *)leaf;
    enum state was = self->state;
    store_leave(self);
    self->state = TRYING;
    if (self->gives) {
        self->store->slots -= was == TURN;
        trale_grant_slots(self->store);
    } else if (was == GRANTED) {
        PyObject *value = self->value;
        self->value = NULL;
        if (self->hold != NULL)
            trale_unlock(self->hold);
        else if (trale_put(self->store, value, 1) < 0)
            PyErr_WriteUnraisable((PyObject *)self->store);
    }
    trale_replace(&self->wake, NULL);
}

/* A value that was taken out of a giver's hands does not come back. All else is given back. */
static bool store_delivered(Leaf *leaf)
{
    Wait *self = (Wait *)leaf;
    if (self->gives && self->state == GRANTED)
        return true;
    store_leave(self);
    return false;
}

static const LeafKind store_leaf = {
    .advance = store_advance, .drop = store_drop, .delivered = store_delivered,
};

Wait *trale_new_wait(Store *store)
{
    Wait *self = trale_new_object(Wait_type);
    if (self != NULL) {
        self->leaf.kind = &store_leaf;
        self->store = NEWREF(Store, store);
    }
    return self;
}

static PyObject *Wait_look(Wait *self, PyObject *parked)
{
    enum step now = store_look(self, parked);
    return now == FAILED ? NULL : PyBool_FromLong(now == DONE);
}

PyObject *trale_block(Wait *wait, PyObject *timeout)
{
    PyObject *used = wait == NULL ? NULL : trale_leaf_use(&wait->leaf, NULL);
    PyObject *parked =
        used == NULL ? NULL : PyObject_CallFunctionObjArgs(park, wait, timeout, NULL);
    PyObject *result = parked == NULL ? NULL : store_take_result(wait);
    XDECREF(used);
    XDECREF(parked);
    if (used != NULL && result == NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        store_drop(&wait->leaf);  /* R28: it may have been granted before a Ctrl-C */
        PyErr_Restore(type, value, traceback);
    }
    XDECREF(wait);
    return result;
}

PyObject *trale_block_function(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords)
{
    if (count == 2 && keywords == NULL && Py_TYPE(args[0]) == Wait_type)
        return trale_block(NEWREF(Wait, args[0]), args[1]);
    return trale_call_python(python_block, NULL, args, count, keywords);
}

static PyObject *Wait_get_result(Wait *self, void *Py_UNUSED(closure))
{
    return store_take_result(self);
}

/* There is no clear: a cycle passes through objects that have one. */
static int Wait_traverse(Wait *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->store);
    Py_VISIT(self->value);
    Py_VISIT(self->hold);
    return 0;
}

static void Wait_dealloc(Wait *self)
{
    if (trale_leaf_stays(self))
        return;
    PyObject_GC_UnTrack(self);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    store_drop(&self->leaf);
    PyErr_Restore(type, value, traceback);
    XDECREF(self->value);
    XDECREF(self->hold);
    XDECREF(self->who);
    XDECREF(self->store);
    trale_free_object(self);
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

/* ---- the types -------------------------------------------------------------------------------------- */

static PyType_Slot Line_slots[] = {
    {Py_sq_length, Line_length},
    {Py_tp_dealloc, trale_free_object},
    {0, NULL},
};

static PyType_Spec Line_spec = {
    .name = "trale_py._native.Line",
    .basicsize = sizeof(Line),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Line_slots,
};

static PyMethodDef Wait_methods[] = {
    {"look", (PyCFunction)Wait_look, METH_O, NULL},
    TRALE_LEAF_METHODS,
    {NULL, NULL, 0, NULL},
};

static PyObject *Wait_repr(Wait *self)
{
    const char *name = self->hold != NULL ? "lock" : self->gives ? "send"
                       : self->store->values != NULL ? "recv" : "acquire";
    return PyUnicode_FromFormat("<%s of %R>", name, self->store);
}

static PyGetSetDef Wait_getset[] = {
    {"result", (getter)Wait_get_result, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Wait_slots[] = {
    {Py_tp_traverse, Wait_traverse},
    {Py_tp_dealloc, Wait_dealloc},
    {Py_tp_repr, Wait_repr},
    {Py_tp_methods, Wait_methods},
    {Py_tp_getset, Wait_getset},
    TRALE_LEAF_PROTOCOL,
    {0, NULL},
};

static PyType_Spec Wait_spec = {
    .name = "trale_py._native.Wait",
    .basicsize = sizeof(Wait),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = Wait_slots,
};

int trale_add_waits(PyObject *module, PyObject *base)
{
    return (Wait_type = trale_add_type(module, &Wait_spec, base)) == NULL ? -1 : 0;
}

int trale_add_store(PyObject *module)
{
    return (Line_type = trale_add_type(module, &Line_spec, NULL)) == NULL ? -1 : 0;
}

static const trale_use store_uses[] = {
    {TRALE_USE_NAME, "collections:deque", "append", .place = &store_name_append},
    {TRALE_USE_NAME, "collections:deque", "appendleft", .place = &store_name_appendleft},
    {TRALE_USE_NAME, "collections:deque", "popleft", .place = &store_name_popleft},
    {TRALE_USE_NAME, "_thread:LockType", "release", .place = &store_name_release},
    {TRALE_USE_OBJECT, "trale_py.sync.waiters", "park", .place = &park},
    {TRALE_USE_OBJECT, "block", NULL, .place = &python_block},
    {0},
};

const trale_uses trale_store_uses = {"store.c", .after = "Permits", .table = store_uses};
