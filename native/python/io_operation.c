/* An operation: it tries its system call whenever its direction is ready, until it is done.
 *
 *     operation_advance   a poll: find the source, then
 *       operation_begin     the first time: is it this one's turn, and is there anything to try?
 *       operation_try_it    as long as the direction is ready: an attempt. Then wait for it.
 *     operation_drop      give back what it holds, and be as new
 */

#include "io.h"
#include "registry.h"

#include <errno.h>
#include <string.h>

static PyTypeObject *Operation_type;
static PyObject *operation_name_attach, *operation_name_check_open;
static PyObject *operation_name_check_ours, *operation_name_check_eagain;
static PyObject *operation_name_release;  /* of a memoryview */
static PyObject *operation_call_made_by, *operation_name_of;  /* see streams/io.py */

/* Let go of the user's buffer now: a traceback or a handle may keep the operation. */
static void operation_release_buffers(Operation *self)
{
    PyObject *lent = self->lent;
    self->lent = NULL;
    if (self->view.obj == NULL && lent == NULL)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyBuffer_Release(&self->view);
    if (lent != NULL) {
        XDECREF(PyObject_CallMethodObjArgs(lent, operation_name_release, NULL));
        DECREF(lent);
    }
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
}

/* Whatever the operation holds, go back to where it had not begun. */
static void operation_drop(Leaf *leaf)
{
    Operation *self = (Operation *)leaf;
    trale_cell *cell = self->waiter.cell;
    if (self->run_queue != NULL && trale_stop_waiting(self->run_queue->engine, &self->waiter))
        tpy_release_cell(cell);
    if (self->claimed)
        *(self->writing ? &self->io->writing : &self->io->reading) = 0;
    if (self->sent > 0 && self->sent < self->want) {
        self->io->cut_sent = self->sent;
        self->io->cut_total = self->want;
    }
    self->sent = 0;
    self->claimed = self->begun = 0;
    Py_CLEAR(self->run_queue);
    operation_release_buffers(self);
}

/* Call a method of the owner's that is not on the fast path. */
static PyObject *operation_ask(Operation *self, PyObject *name, PyObject *argument)
{
    return PyObject_CallMethodObjArgs(self->owner, name, argument, NULL);
}

static enum step operation_fail_by(Operation *self, PyObject *check)
{
    XDECREF(operation_ask(self, check, NULL));
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_SystemError, "%R of %R raised nothing", check, self->owner);
    return FAILED;
}

static enum step operation_fail(Operation *self, int error)
{
    if (self->io->closed)
        return operation_fail_by(self, operation_name_check_open);
    tpy_raise(error);
    return FAILED;
}

/* What comes before the first try. DONE: there is nothing to try. */
static enum step operation_begin(Operation *self, PyObject **result)
{
    if (self->kind >= RECV_FROM || self->kind == FILL)
        return AGAIN;  /* not about a stream, or a part of what has begun already */
    if (tpy_claim(self->io, self->writing) < 0)
        return FAILED;
    self->claimed = 1;
    if (self->io->closed)
        return operation_fail_by(self, operation_name_check_open);
    PyObject *buffer = self->io->buffer;
    if (!self->writing && buffer != NULL && PyByteArray_Size(buffer) > 0) {
        PyObject *data = tpy_take_buffered(self->io, self->want);
        if (data != NULL && self->kind == RECV_INTO) {
            Py_ssize_t size = PyBytes_Size(data);
            memcpy(self->view.buf, PyBytes_AsString(data), size);
            DECREF(data);
            data = PyLong_FromSsize_t(size);
        }
        *result = data;
        return data == NULL ? FAILED : DONE;
    }
    if (self->writing && tpy_check_whole(self->io) < 0)
        return FAILED;
    if (self->writing && self->want == 0) {
        *result = self->kind == SEND ? PyLong_FromLong(0) : Py_NewRef(Py_None);
        return *result == NULL ? FAILED : DONE;
    }
    return AGAIN;
}

/* The direction's source, which belongs to this executor. NULL with an exception set. */
static Source *operation_attach(Operation *self, Context *cx)
{
    Source *source = self->io->source;
    if (source != NULL && source->source != NULL && !self->io->closed
        && source->run_queue == cx->waker->run_queue)
        return source;
    PyObject *attached = operation_ask(self, operation_name_attach, cx->runtime);
    if (attached == NULL)
        return NULL;
    if (!PyObject_TypeCheck(attached, tpy_Source)) {
        PyErr_Format(PyExc_TypeError, "_attach() returned %R, not a Source", attached);
        DECREF(attached);
        return NULL;
    }
    DECREF(attached);  /* io refers to it */
    if (self->io->source == NULL)
        PyErr_SetString(PyExc_SystemError, "_attach() has not set the source");
    return self->io->source;
}

/* It is about to wait. R44: it looks as if this could be done once, before the first attempt. But what a
 * CALL calls, or a __del__ that comes in between, may drop this operation, which then has no run-queue
 * any more; to wait without one would end the process. */
static void operation_wait_with(Operation *self, RunQueue *run_queue)
{
    if (self->run_queue == run_queue)
        return;
    XDECREF(self->run_queue);
    self->run_queue = NEWREF(RunQueue, run_queue);
}

/* Call a check of the owner's. False: it has set an exception. */
static bool operation_passes(Operation *self, PyObject *check)
{
    PyObject *done = operation_ask(self, check, NULL);
    XDECREF(done);
    return done != NULL;
}

/* Python code that was called meanwhile has dropped it, and with it the buffer. */
static bool operation_lost_its_buffer(Operation *self)
{
    if (self->view.obj != NULL || self->kind < RECV_INTO || self->kind == RECV_FROM
        || self->kind == CALL)
        return false;
    PyErr_Format(PyExc_RuntimeError, "%R was destroyed while it was polled", self);
    return true;
}

int tpy_call_made_by(Operation *self)
{
    PyObject *number = PyObject_CallFunctionObjArgs(operation_call_made_by, self->function,
                                                    self->writing ? Py_True : Py_False,
                                                    self->io->plain ? Py_True : Py_False, NULL);
    long call = number == NULL ? -1 : PyLong_AsLong(number);
    XDECREF(number);
    return (int)call;
}

/* Try until it is done or must wait. */
static enum step operation_try_it(Operation *self, Context *cx, Source *source, PyObject **result)
{
    if (source->source == NULL)  /* the descriptor is not watched any more */
        return operation_fail(self, EBADF);
    trale_direction *d = &source->source->direction[self->writing ? TRALE_WRITE : TRALE_READ];
    for (;;) {
        if (self->io->closed || source->source == NULL)
            return operation_fail(self, EBADF);
        if (self->io->shared
            && (!operation_passes(self, operation_name_check_ours)
                || operation_lost_its_buffer(self)))
            return FAILED;
        uint64_t tick = atomic_load_explicit(&d->events, memory_order_acquire);
        if (tick == d->seen) {
            operation_wait_with(self, cx->waker->run_queue);
            if (trale_wait_for(self->run_queue->engine, d, &self->waiter, cx->waker->cell))
                return WAIT;
            continue;
        }
        Py_ssize_t asked = self->want - self->sent;
        Py_ssize_t n = tpy_attempt(self, source->run_queue->simulated, &asked, result);
        if (n < 0 && n != -EAGAIN) {
            /* EBADF and the like, as it was closed meanwhile; and no other exception of a CALL. */
            if (PyErr_Occurred() && !(self->io->closed && PyErr_ExceptionMatches(PyExc_OSError)))
                return FAILED;
            PyErr_Clear();
            return operation_fail(self, (int)-n);
        }
        if (n == -EAGAIN && self->writing && self->kind >= RECV_FROM
            && !operation_passes(self, operation_name_check_eagain))
            return FAILED;
        /* Fewer than asked for: there are no more just now. But the end or an error comes as one
         * event with the last bytes, and not again; and urgent data cuts a read short. So does the
         * end of a line on a terminal, and a page of the user's buffer that is not there: see
         * streams/io.py. */
        bool drained = (self->kind == RECV || self->kind == FILL) && n < asked && !self->io->plain
                       && !atomic_load_explicit(&d->more, memory_order_relaxed);
        if ((n == -EAGAIN || drained) && source->source != NULL)
            d->seen = tick;
        if (n == -EAGAIN)
            continue;
        if (self->kind != SEND_ALL || self->sent == self->want)
            return DONE;
        Py_CLEAR(*result);
    }
}

static enum step operation_step(Operation *self, Context *cx, Source *source, PyObject **result)
{
    enum step now = AGAIN;
    if (!self->begun) {
        self->begun = 1;
        now = operation_lost_its_buffer(self) ? FAILED : operation_begin(self, result);
    }
    return now == AGAIN ? operation_try_it(self, cx, source, result) : now;
}

static enum step operation_advance(Leaf *leaf, Context *cx, PyObject **result)
{
    Operation *self = (Operation *)leaf;
    enum step now = FAILED;
    *result = NULL;
    Source *source = operation_attach(self, cx);
    if (source != NULL) {
        INCREF(source);  /* a CALL may close the socket */
        now = operation_step(self, cx, source, result);
        DECREF(source);
    }
    if (now == DONE)
        self->sent = 0;
    return now;
}

/* ---- the type ------------------------------------------------------------------------------------ */

/* The collector must see through an operation: a socket may refer to one of its own, or a
 * function to what awaits it. There is no clear, as such a cycle passes through objects that have
 * one. The view is not shown: the clear of a memoryview that is exported leaves it broken. */
static int Operation_traverse(Operation *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->owner);
    Py_VISIT(self->function);
    return 0;
}

static void Operation_dealloc(Operation *self)
{
    if (tpy_leaf_stays(self))
        return;
    PyObject_GC_UnTrack(self);
    if (self->leaf.use != ENDED)
        operation_drop(&self->leaf);
    XDECREF(self->function);
    XDECREF(self->io);
    XDECREF(self->owner);
    tpy_free_object(self);
}

static PyObject *Operation_repr(Operation *self)
{
    static const char *const names[] = {
        [RECV] = "read", [FILL] = "read", [RECV_INTO] = "readinto", [SEND] = "write",
        [SEND_ALL] = "write_all", [RECV_FROM] = "recv_from", [SEND_TO] = "send_to",
        [CALL] = "",  /* it has the name of its function */
    };
    _Static_assert(sizeof names / sizeof *names == KINDS, "each kind of operation has a name");
    if (self->kind != CALL)
        return PyUnicode_FromFormat("<%s of %R>", names[self->kind], self->owner);
    PyObject *name = PyObject_CallFunctionObjArgs(operation_name_of, self->function, NULL);
    PyObject *shown = name == NULL ? NULL : PyUnicode_FromFormat("<%S of %R>", name, self->owner);
    XDECREF(name);
    return shown;
}

static const LeafKind operation_leaf = {.advance = operation_advance, .drop = operation_drop};

static PyType_Slot Operation_slots[] = {
    {Py_tp_dealloc, Operation_dealloc},
    {Py_tp_traverse, Operation_traverse},
    TPY_LEAF_SLOTS,
    {Py_tp_repr, Operation_repr},
    {0, NULL},
};

static PyType_Spec Operation_spec = {
    .name = "trale_py._native.Operation",
    .basicsize = sizeof(Operation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = Operation_slots,
};

Operation *tpy_new_operation(Io *io, PyObject *owner, enum kind kind)
{
    Operation *self = tpy_new_object(Operation_type);
    if (self == NULL)
        return NULL;
    self->leaf.kind = &operation_leaf;
    self->io = NEWREF(Io, io);
    self->owner = Py_NewRef(owner);
    self->kind = kind;
    self->writing = kind == SEND || kind == SEND_ALL || kind == SEND_TO;
    return self;
}

int tpy_add_operations(PyObject *module, PyObject *base)
{
    return (Operation_type = tpy_add_type(module, &Operation_spec, base)) == NULL ? -1 : 0;
}

#define DESCRIPTOR "trale_py.streams.descriptor:Descriptor"

static const tpy_use operation_uses[] = {
    {TPY_USE_NAME, DESCRIPTOR, "_attach", .place = &operation_name_attach},
    {TPY_USE_NAME, DESCRIPTOR, "_check_open", .place = &operation_name_check_open},
    {TPY_USE_NAME, "builtins:memoryview", "release", .place = &operation_name_release},
    {TPY_USE_OBJECT, "trale_py.streams.io", "name_of", .place = &operation_name_of},
    {TPY_USE_OBJECT, "trale_py.streams.io", "call_made_by", .place = &operation_call_made_by},
    {TPY_USE_NAME, DESCRIPTOR, "_check_ours", .place = &operation_name_check_ours},
    {TPY_USE_NAME, DESCRIPTOR, "_check_eagain", .place = &operation_name_check_eagain},
    {0},
};

const tpy_uses tpy_operation_uses = {"io_operation.c", .after = "BaseStream", .table = operation_uses};
