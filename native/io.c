/* Io and its operations, which tasks await: see net/plain_io.py.
 *
 * An operation tries its system call whenever its direction is ready, until it is done; the GIL is
 * kept, as none of them waits.
 */

#include "leaf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static PyTypeObject *Io_type, *Operation_type;
static PyObject *BusyResourceError;
static PyObject *name_attach, *name_check_open;

/* What comes of a read is copied from here, as it is mostly much less than was asked for. */
#define SCRATCH 65536
static char scratch[SCRATCH];

/* From this size on a copy costs more than to ask how much there is. */
#define BIG 16384

typedef struct {
    PyObject_HEAD
    Source *source;    /* NULL before the first operation, and after the close */
    PyObject *buffer;  /* a bytearray: read from the socket, not yet by the user; or NULL */
    Py_ssize_t cut_sent, cut_total;  /* an earlier send_all sent so much of so many bytes */
    int fd;
    int family;  /* AF_UNSPEC: not asked yet */
    char closed;
    char reading, writing;  /* an operation of that kind is in progress */
    char big;               /* the last read was */
} Io;

enum kind { RECV, FILL, RECV_INTO, SEND, SEND_ALL, RECV_FROM, SEND_TO, CALL };

typedef struct {
    Leaf leaf;
    PyObject *owner;  /* the socket that Io belongs to */
    Io *io;
    RunQueue *run_queue;  /* of the executor that polls it */
    trale_waiter waiter;
    PyObject *function;  /* CALL */
    Py_buffer view;      /* RECV_INTO, SEND, SEND_ALL */
    Py_ssize_t want;     /* how many bytes it asks for; 0: nobody knows */
    Py_ssize_t sent;     /* SEND_ALL */
    struct sockaddr_in to;  /* SEND_TO */
    enum kind kind;
    char writing;  /* which direction */
    char begun;    /* what comes before the first try is done */
    char claimed;  /* io->reading or io->writing is ours */
} Operation;

/* ---- one step ---------------------------------------------------------------------------------- */

/* Whatever the operation holds, go back to where it had not begun. */
static void drop(Leaf *leaf)
{
    Operation *self = (Operation *)leaf;
    trale_cell *cell = self->waiter.cell;
    if (self->run_queue != NULL && trale_stop_waiting(self->run_queue->engine, &self->waiter))
        trale_release_cell(cell);
    if (self->claimed)
        *(self->writing ? &self->io->writing : &self->io->reading) = 0;
    if (self->sent > 0 && self->sent < self->want) {
        self->io->cut_sent = self->sent;
        self->io->cut_total = self->want;
    }
    self->sent = 0;
    self->claimed = self->begun = 0;
    Py_CLEAR(self->run_queue);
}

/* Call a method of the owner's that is not on the fast path. */
static PyObject *ask(Operation *self, PyObject *name, PyObject *argument)
{
    return PyObject_CallMethodObjArgs(self->owner, name, argument, NULL);
}

static enum step fail_by(Operation *self, PyObject *check)
{
    XDECREF(ask(self, check, NULL));
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_SystemError, "%R of %R raised nothing", check, self->owner);
    return FAILED;
}

static enum step fail(Operation *self, int error)
{
    if (self->io->closed)
        return fail_by(self, name_check_open);
    trale_raise(error);
    return FAILED;
}

static int claim(Io *io, int writing)
{
    char *held = writing ? &io->writing : &io->reading;
    if (*held) {
        PyErr_Format(BusyResourceError, "another task is already %s this stream",
                     writing ? "writing to" : "reading from");
        return -1;
    }
    *held = 1;
    return 0;
}

/* A number of bytes; -1 with an exception set. */
static Py_ssize_t size_of(PyObject *number)
{
    Py_ssize_t n = PyLong_AsSsize_t(number);
    if (n >= 0 || PyErr_Occurred())
        return n;
    PyErr_Format(PyExc_ValueError, "%zd is no number of bytes", n);
    return -1;
}

/* At most `n` bytes out of the buffer. */
static PyObject *take(Io *io, Py_ssize_t n)
{
    if (io->buffer == NULL)
        return PyBytes_FromStringAndSize(NULL, 0);
    Py_ssize_t size = PyByteArray_Size(io->buffer);
    if (n > size)
        n = size;
    PyObject *data = PyBytes_FromStringAndSize(PyByteArray_AsString(io->buffer), n);
    /* Does not move the rest, and changes nothing if somebody has a view of the buffer. */
    if (data != NULL && PySequence_DelSlice(io->buffer, 0, n) < 0)
        Py_CLEAR(data);
    return data;
}

/* Could anybody go on writing, or was a part of something sent? */
static int check_whole(Io *io)
{
    if (io->cut_total == 0)
        return 0;
    PyObject *error = PyObject_CallFunction(
        PyExc_OSError, "iN", EPIPE,
        PyUnicode_FromFormat("%s: an earlier write_all sent %zd of %zd bytes", strerror(EPIPE),
                             io->cut_sent, io->cut_total));
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    XDECREF(error);
    return -1;
}

/* What comes before the first try. DONE: there is nothing to try. */
static enum step begin(Operation *self, PyObject **result)
{
    if (self->kind >= RECV_FROM || self->kind == FILL)
        return AGAIN;  /* not about a stream, or a part of what has begun already */
    if (claim(self->io, self->writing) < 0)
        return FAILED;
    self->claimed = 1;
    if (self->io->closed)
        return fail_by(self, name_check_open);
    PyObject *buffer = self->io->buffer;
    if (!self->writing && buffer != NULL && PyByteArray_Size(buffer) > 0) {
        PyObject *data = take(self->io, self->want);
        if (data != NULL && self->kind == RECV_INTO) {
            Py_ssize_t size = PyBytes_Size(data);
            memcpy(self->view.buf, PyBytes_AsString(data), size);
            DECREF(data);
            data = PyLong_FromSsize_t(size);
        }
        *result = data;
        return data == NULL ? FAILED : DONE;
    }
    if (self->writing && check_whole(self->io) < 0)
        return FAILED;
    if (self->writing && self->want == 0) {
        *result = self->kind == SEND ? PyLong_FromLong(0) : Py_NewRef(Py_None);
        return *result == NULL ? FAILED : DONE;
    }
    return AGAIN;
}

static Py_ssize_t receive(int fd, char *place, Py_ssize_t size)
{
    ssize_t got;
    do {
        got = recv(fd, place, size, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/* -errno, or how many bytes are in `result`, a new bytes object. `asked`: how many were wanted. */
static Py_ssize_t receive_bytes(Io *io, Py_ssize_t *asked, PyObject **result)
{
    int there = 0;
    Py_ssize_t got;
    if (io->big && ioctl(io->fd, FIONREAD, &there) == 0 && there >= BIG) {
        /* What comes after this look is told by an event after this look. */
        Py_ssize_t size = there < *asked ? there : *asked;
        PyObject *data = PyBytes_FromStringAndSize(NULL, size);
        if (data == NULL)
            return -ENOMEM;
        got = receive(io->fd, PyBytes_AsString(data), size);
        if (got == size)
            *result = data;
        else if (got >= 0)
            *result = PyBytes_FromStringAndSize(PyBytes_AsString(data), got);
        if (*result != data)
            DECREF(data);
    } else {
        if (*asked > SCRATCH)
            *asked = SCRATCH;
        got = receive(io->fd, scratch, *asked);
        if (got >= 0)
            *result = PyBytes_FromStringAndSize(scratch, got);
    }
    if (got >= 0) {
        io->big = got >= BIG;
        if (*result == NULL)
            return -ENOMEM;
    }
    return got;
}

static Py_ssize_t call(Operation *self, PyObject **result)
{
    *result = PyObject_CallFunctionObjArgs(self->function, NULL);
    if (*result == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_BlockingIOError))
            return -EIO;  /* the exception is set and says more */
        PyErr_Clear();
        return -EAGAIN;
    }
    if (self->want == 0)
        return 0;
    return PyLong_Check(*result) ? PyLong_AsSsize_t(*result) : PyObject_Size(*result);
}

/* How the socket module shows an address; NULL with an exception set. */
static PyObject *show_address(const struct sockaddr_storage *from)
{
    char text[INET6_ADDRSTRLEN];
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
        return Py_BuildValue("si", text, ntohs(v4->sin_port));
    }
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
        return Py_BuildValue("siII", text, ntohs(v6->sin6_port), ntohl(v6->sin6_flowinfo),
                             v6->sin6_scope_id);
    }
    PyErr_Format(PyExc_OSError, "a datagram from an address of family %d", from->ss_family);
    return NULL;
}

static Py_ssize_t receive_from(Io *io, PyObject **result)
{
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    ssize_t got;
    do {
        got = recvfrom(io->fd, scratch, SCRATCH, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    PyObject *address = show_address(&from);
    PyObject *data = address == NULL ? NULL : PyBytes_FromStringAndSize(scratch, got);
    if (data != NULL)
        *result = PyTuple_Pack(2, data, address);
    XDECREF(data);
    XDECREF(address);
    return *result == NULL ? -ENOMEM : got;
}

static Py_ssize_t send_to(Operation *self, PyObject **result)
{
    ssize_t n;
    do {
        n = sendto(self->io->fd, self->view.buf, self->view.len, MSG_DONTWAIT | MSG_NOSIGNAL,
                   (struct sockaddr *)&self->to, sizeof self->to);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    *result = PyLong_FromSsize_t(n);
    return *result == NULL ? -ENOMEM : n;
}

/* One system call. -errno, or how many bytes it was about, of so many asked for. */
static Py_ssize_t try_once(Operation *self, Py_ssize_t *asked, PyObject **result)
{
    int fd = self->io->fd;
    char *place = (char *)self->view.buf;
    Py_ssize_t n;
    switch (self->kind) {
    case RECV:
    case FILL:
        return receive_bytes(self->io, asked, result);
    case RECV_INTO:
        n = receive(fd, place, self->want);
        break;
    case SEND:
    case SEND_ALL:
        do {
            /* MSG_NOSIGNAL: a program may have given SIGPIPE its deadly meaning back. */
            n = send(fd, place + self->sent, self->want - self->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
            return -errno;
        if (self->kind == SEND_ALL) {
            self->sent += n;
            *result = Py_NewRef(Py_None);
            return n;
        }
        break;
    case RECV_FROM:
        return receive_from(self->io, result);
    case SEND_TO:
        return send_to(self, result);
    default:
        return call(self, result);
    }
    if (n >= 0 && (*result = PyLong_FromSsize_t(n)) == NULL)
        return -ENOMEM;
    return n;
}

/* The direction's source, which belongs to this executor. NULL with an exception set. */
static Source *attach(Operation *self, Context *cx)
{
    Source *source = self->io->source;
    if (source != NULL && source->source != NULL && !self->io->closed
        && source->run_queue == cx->waker->run_queue)
        return source;
    PyObject *attached = ask(self, name_attach, cx->runtime);
    if (attached == NULL)
        return NULL;
    if (!PyObject_TypeCheck(attached, trale_Source)) {
        PyErr_Format(PyExc_TypeError, "_attach() returned %R, not a Source", attached);
        DECREF(attached);
        return NULL;
    }
    DECREF(attached);  /* io refers to it */
    if (self->io->source == NULL)
        PyErr_SetString(PyExc_SystemError, "_attach() has not set the source");
    return self->io->source;
}

/* Try until it is done or has to wait. */
static enum step try_it(Operation *self, Context *cx, Source *source, PyObject **result)
{
    if (source->source == NULL)  /* somebody else stopped to watch the descriptor */
        return fail(self, EBADF);
    trale_direction *d = &source->source->direction[self->writing ? TRALE_WRITE : TRALE_READ];
    for (;;) {
        if (self->io->closed || source->source == NULL)
            return fail(self, EBADF);
        uint64_t tick = atomic_load_explicit(&d->events, memory_order_acquire);
        if (tick == d->seen) {
            if (trale_wait_for(self->run_queue->engine, d, &self->waiter, cx->waker->cell))
                return WAIT;
            continue;
        }
        Py_ssize_t asked = self->want - self->sent;
        Py_ssize_t n = try_once(self, &asked, result);
        if (n < 0)
            Py_CLEAR(*result);  /* a call's, which was no number and had no length */
        if (n < 0 && n != -EAGAIN) {
            /* EBADF and the like, as it was closed meanwhile; and no other exception of a CALL. */
            if (PyErr_Occurred() && !(self->io->closed && PyErr_ExceptionMatches(PyExc_OSError)))
                return FAILED;
            PyErr_Clear();
            return fail(self, (int)-n);
        }
        /* Fewer than asked for: there are no more just now. But the end or an error comes as one
         * event with the last bytes, and not again; and urgent data cuts a read short. */
        bool drained = n < asked && !atomic_load_explicit(&d->more, memory_order_relaxed);
        if ((n == -EAGAIN || drained) && source->source != NULL)
            d->seen = tick;
        if (n == -EAGAIN)
            continue;
        if (self->kind != SEND_ALL || self->sent == self->want)
            return DONE;
        Py_CLEAR(*result);
    }
}

static enum step step(Operation *self, Context *cx, Source *source, PyObject **result)
{
    enum step now = AGAIN;
    if (!self->begun) {
        self->begun = 1;
        now = begin(self, result);
    }
    if (self->run_queue != cx->waker->run_queue) {
        XDECREF(self->run_queue);
        self->run_queue = NEWREF(RunQueue, cx->waker->run_queue);
    }
    return now == AGAIN ? try_it(self, cx, source, result) : now;
}

static enum step advance(Leaf *leaf, Context *cx, PyObject **result)
{
    Operation *self = (Operation *)leaf;
    enum step now = FAILED;
    *result = NULL;
    Source *source = attach(self, cx);
    if (source != NULL) {
        INCREF(source);  /* a CALL may close the socket */
        now = step(self, cx, source, result);
        DECREF(source);
    }
    if (now == DONE)
        self->sent = 0;
    return now;
}

/* ---- Operation ---------------------------------------------------------------------------------- */

/* The collector has to see through an operation: a socket may refer to one of its own, or a
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
    PyObject_GC_UnTrack(self);
    drop(&self->leaf);
    if (self->view.obj != NULL)
        PyBuffer_Release(&self->view);
    XDECREF(self->function);
    XDECREF(self->io);
    XDECREF(self->owner);
    trale_free_object(self);
}

static PyObject *Operation_repr(Operation *self)
{
    static const char *const names[] = {"read", "read", "readinto", "write", "write_all", "call"};
    return PyUnicode_FromFormat("<%s of %R>", names[self->kind], self->owner);
}

static const LeafKind leaf_kind = {.advance = advance, .drop = drop};

static PyType_Slot Operation_slots[] = {
    {Py_tp_dealloc, Operation_dealloc},
    {Py_tp_traverse, Operation_traverse},
    TRALE_LEAF_SLOTS,
    {Py_tp_repr, Operation_repr},
    {0, NULL},
};

static PyType_Spec Operation_spec = {
    .name = "trale_py._native.Operation",
    .basicsize = sizeof(Operation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = Operation_slots,
};

/* ---- Io ------------------------------------------------------------------------------------------- */

static PyObject *Io_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", NULL};
    int fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i:Io", names, &fd))
        return NULL;
    Io *self = (Io *)PyType_GenericAlloc(type, 0);
    if (self != NULL)
        self->fd = fd;
    return (PyObject *)self;
}

static void Io_dealloc(Io *self)
{
    XDECREF(self->source);
    XDECREF(self->buffer);
    trale_free_object(self);
}

static Operation *operation(Io *self, PyObject *owner, enum kind kind)
{
    if (Operation_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "set_up_futures() has not been called");
        return NULL;
    }
    Operation *operation = (Operation *)PyType_GenericAlloc(Operation_type, 0);
    if (operation == NULL)
        return NULL;
    operation->leaf.kind = &leaf_kind;
    operation->io = NEWREF(Io, self);
    operation->owner = Py_NewRef(owner);
    operation->kind = kind;
    operation->writing = kind == SEND || kind == SEND_ALL || kind == SEND_TO;
    return operation;
}

static int expect(Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%zd arguments are wanted, not %zd", wanted, given);
    return -1;
}

/* (owner, n) */
static PyObject *receiving(Io *self, PyObject *const *args, Py_ssize_t count, enum kind kind)
{
    if (expect(count, 2) < 0)
        return NULL;
    Py_ssize_t n = size_of(args[1]);
    if (n < 0)
        return NULL;
    Operation *made = operation(self, args[0], kind);
    if (made != NULL)
        made->want = n;
    return (PyObject *)made;
}

static PyObject *Io_recv(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return receiving(self, args, count, RECV);
}

static PyObject *Io_fill(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return receiving(self, args, count, FILL);
}

/* (owner, a contiguous buffer) */
static PyObject *with_view(Io *self, PyObject *const *args, Py_ssize_t count, enum kind kind)
{
    if (expect(count, 2) < 0)
        return NULL;
    Operation *made = operation(self, args[0], kind);
    if (made == NULL)
        return NULL;
    int flags = kind == RECV_INTO ? PyBUF_WRITABLE : PyBUF_SIMPLE;
    if (PyObject_GetBuffer(args[1], &made->view, flags) < 0) {
        DECREF(made);
        return NULL;
    }
    made->want = made->view.len;
    return (PyObject *)made;
}

/* Is it ("127.0.0.1", 5000), and the socket an IPv4 one? */
static bool parse_address(Io *io, PyObject *address, struct sockaddr_in *to)
{
    if (!PyTuple_CheckExact(address) || PyTuple_Size(address) != 2)
        return false;
    PyObject *host = PyTuple_GetItem(address, 0), *port = PyTuple_GetItem(address, 1);
    if (!PyUnicode_CheckExact(host) || !PyLong_CheckExact(port))
        return false;
    if (io->family == AF_UNSPEC) {
        socklen_t length = sizeof io->family;
        getsockopt(io->fd, SOL_SOCKET, SO_DOMAIN, &io->family, &length);
    }
    *to = (struct sockaddr_in){.sin_family = AF_INET};
    const char *text = PyUnicode_AsUTF8AndSize(host, NULL);
    long number = PyLong_AsLong(port);
    PyErr_Clear();
    to->sin_port = htons((uint16_t)number);
    return io->family == AF_INET && text != NULL && number > 0 && number <= UINT16_MAX
           && inet_pton(AF_INET, text, &to->sin_addr) == 1;
}

static PyObject *Io_recv_into(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return with_view(self, args, count, RECV_INTO);
}

static PyObject *Io_send(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return with_view(self, args, count, SEND);
}

static PyObject *Io_send_all(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return with_view(self, args, count, SEND_ALL);
}

/* (owner) */
static PyObject *Io_recv_from(Io *self, PyObject *owner)
{
    return (PyObject *)operation(self, owner, RECV_FROM);
}

/* (owner, a contiguous buffer, address). None: the address needs a longer way, see plain_io.py. */
static PyObject *Io_send_to(Io *self, PyObject *const *args, Py_ssize_t count)
{
    if (expect(count, 3) < 0)
        return NULL;
    struct sockaddr_in to;
    if (!parse_address(self, args[2], &to))
        Py_RETURN_NONE;
    Operation *made = (Operation *)with_view(self, args, 2, SEND_TO);
    if (made != NULL) {
        made->want = 0;  /* a datagram goes whole or not at all */
        made->to = to;
    }
    return (PyObject *)made;
}

/* (owner, function, want, writing) */
static PyObject *Io_call(Io *self, PyObject *const *args, Py_ssize_t count)
{
    if (expect(count, 4) < 0)
        return NULL;
    Py_ssize_t want = PyLong_AsSsize_t(args[2]);
    if (want == -1 && PyErr_Occurred())
        return NULL;
    int writing = PyObject_IsTrue(args[3]);
    if (writing < 0)
        return NULL;
    Operation *made = operation(self, args[0], CALL);
    if (made == NULL)
        return NULL;
    made->function = Py_NewRef(args[1]);
    made->want = want;
    made->writing = (char)writing;
    return (PyObject *)made;
}

static PyObject *Io_take(Io *self, PyObject *size)
{
    Py_ssize_t n = size_of(size);
    return n < 0 ? NULL : take(self, n);
}

static PyObject *Io_claim(Io *self, PyObject *writing)
{
    int which = PyObject_IsTrue(writing);
    if (which < 0 || claim(self, which) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Io_release(Io *self, PyObject *writing)
{
    int which = PyObject_IsTrue(writing);
    if (which < 0)
        return NULL;
    *(which ? &self->writing : &self->reading) = 0;
    Py_RETURN_NONE;
}

static PyObject *Io_get_source(Io *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->source == NULL ? Py_None : (PyObject *)self->source);
}

static int Io_set_source(Io *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value != Py_None && (value == NULL || !PyObject_TypeCheck(value, trale_Source))) {
        PyErr_Format(PyExc_TypeError, "source has to be a Source or None, not %R", value);
        return -1;
    }
    Source *old = self->source;
    self->source = value == Py_None ? NULL : NEWREF(Source, value);
    XDECREF(old);
    return 0;
}

static PyObject *Io_get_buffer(Io *self, void *Py_UNUSED(closure))
{
    if (self->buffer == NULL)
        self->buffer = PyByteArray_FromStringAndSize(NULL, 0);
    return self->buffer == NULL ? NULL : Py_NewRef(self->buffer);
}

static PyMethodDef Io_methods[] = {
    {"recv", (PyCFunction)(void (*)(void))Io_recv, METH_FASTCALL, NULL},
    {"fill", (PyCFunction)(void (*)(void))Io_fill, METH_FASTCALL, NULL},
    {"recv_into", (PyCFunction)(void (*)(void))Io_recv_into, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))Io_send, METH_FASTCALL, NULL},
    {"send_all", (PyCFunction)(void (*)(void))Io_send_all, METH_FASTCALL, NULL},
    {"recv_from", (PyCFunction)Io_recv_from, METH_O, NULL},
    {"send_to", (PyCFunction)(void (*)(void))Io_send_to, METH_FASTCALL, NULL},
    {"call", (PyCFunction)(void (*)(void))Io_call, METH_FASTCALL, NULL},
    {"take", (PyCFunction)Io_take, METH_O, NULL},
    {"claim", (PyCFunction)Io_claim, METH_O, NULL},
    {"release", (PyCFunction)Io_release, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Io_members[] = {
    {"closed", T_BOOL, offsetof(Io, closed), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef Io_getset[] = {
    {"source", (getter)Io_get_source, (setter)Io_set_source, NULL, NULL},
    {"buffer", (getter)Io_get_buffer, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Io_slots[] = {
    {Py_tp_new, Io_new},
    {Py_tp_dealloc, Io_dealloc},
    {Py_tp_methods, Io_methods},
    {Py_tp_members, Io_members},
    {Py_tp_getset, Io_getset},
    {0, NULL},
};

static PyType_Spec Io_spec = {
    .name = "trale_py._native.Io",
    .basicsize = sizeof(Io),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Io_slots,
};

int trale_set_up_operations(PyObject *module, PyObject *base, PyObject *busy)
{
    BusyResourceError = Py_NewRef(busy);
    if ((name_attach = PyUnicode_InternFromString("_attach")) == NULL
        || (name_check_open = PyUnicode_InternFromString("_check_open")) == NULL
        || (Operation_type = trale_add_type(module, &Operation_spec, base)) == NULL)
        return -1;
    return 0;
}

int trale_add_io(PyObject *module)
{
    Io_type = trale_add_type(module, &Io_spec, NULL);
    return Io_type == NULL ? -1 : 0;
}
