/* Io: what a socket is to its operations. */

#include "io.h"
#include "registry.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

PyTypeObject *tpy_Io;
static PyObject *io_BusyResourceError;

int tpy_claim(Io *io, int writing)
{
    char *held = writing ? &io->writing : &io->reading;
    if (*held) {
        PyErr_Format(io_BusyResourceError, "another task is already %s this stream",
                     writing ? "writing to" : "reading from");
        return -1;
    }
    *held = 1;
    return 0;
}

/* A number of bytes; -1 with an exception set. */
static Py_ssize_t io_size_of(PyObject *number)
{
    Py_ssize_t n = PyLong_AsSsize_t(number);
    if (n >= 0 || PyErr_Occurred())
        return n;
    PyErr_Format(PyExc_ValueError, "the number of bytes must be 0 or more, not %zd", n);
    return -1;
}

PyObject *tpy_take_buffered(Io *io, Py_ssize_t n)
{
    if (io->buffer == NULL)
        return PyBytes_FromStringAndSize(NULL, 0);
    Py_ssize_t size = PyByteArray_Size(io->buffer);
    if (n > size)
        n = size;
    PyObject *data = PyBytes_FromStringAndSize(PyByteArray_AsString(io->buffer), n);
    /* Does not move the rest, and changes nothing while there is a view of the buffer. */
    if (data != NULL && PySequence_DelSlice(io->buffer, 0, n) < 0)
        Py_CLEAR(data);
    return data;
}

int tpy_check_whole(Io *io)
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
    tpy_free_object(self);
}

static int io_expect(Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, not %zd", wanted, given);
    return -1;
}

Operation *tpy_new_receiving(Io *self, PyObject *owner, enum kind kind, Py_ssize_t n)
{
    Operation *made = tpy_new_operation(self, owner, kind);
    if (made != NULL)
        made->want = n;
    return made;
}

/* (owner, n) */
static PyObject *io_receiving(Io *self, PyObject *const *args, Py_ssize_t count, enum kind kind)
{
    if (io_expect(count, 2) < 0)
        return NULL;
    Py_ssize_t n = io_size_of(args[1]);
    return n < 0 ? NULL : (PyObject *)tpy_new_receiving(self, args[0], kind, n);
}

static PyObject *Io_recv(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return io_receiving(self, args, count, RECV);
}

static PyObject *Io_fill(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return io_receiving(self, args, count, FILL);
}

Operation *tpy_new_viewing(Io *self, PyObject *owner, enum kind kind, PyObject *data)
{
    Operation *made = tpy_new_operation(self, owner, kind);
    if (made == NULL)
        return NULL;
    int flags = kind == RECV_INTO ? PyBUF_WRITABLE : PyBUF_SIMPLE;
    if (PyObject_GetBuffer(data, &made->view, flags) < 0) {
        made->leaf.use = ENDED;
        DECREF(made);
        return NULL;
    }
    made->want = made->view.len;
    return made;
}

/* (owner, a contiguous buffer) */
static PyObject *io_with_view(Io *self, PyObject *const *args, Py_ssize_t count, enum kind kind)
{
    if (io_expect(count, 2) < 0)
        return NULL;
    return (PyObject *)tpy_new_viewing(self, args[0], kind, args[1]);
}

/* Is it ("127.0.0.1", 5000), and the socket an IPv4 one? */
static bool io_parse_address(Io *io, PyObject *address, struct sockaddr_in *to)
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
    Py_ssize_t size = 0;
    const char *text = PyUnicode_AsUTF8AndSize(host, &size);
    long number = PyLong_AsLong(port);
    PyErr_Clear();
    to->sin_port = htons((uint16_t)number);
    return io->family == AF_INET && text != NULL && strlen(text) == (size_t)size  /* no NUL in it */
           && number > 0 && number <= UINT16_MAX && inet_pton(AF_INET, text, &to->sin_addr) == 1;
}

static PyObject *Io_recv_into(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return io_with_view(self, args, count, RECV_INTO);
}

static PyObject *Io_send(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return io_with_view(self, args, count, SEND);
}

static PyObject *Io_send_all(Io *self, PyObject *const *args, Py_ssize_t count)
{
    return io_with_view(self, args, count, SEND_ALL);
}

/* (owner) */
static PyObject *Io_recv_from(Io *self, PyObject *owner)
{
    return (PyObject *)tpy_new_operation(self, owner, RECV_FROM);
}

/* (owner, a contiguous buffer, address). None: the address needs a longer way, see streams/io.py. */
static PyObject *Io_send_to(Io *self, PyObject *const *args, Py_ssize_t count)
{
    if (io_expect(count, 3) < 0)
        return NULL;
    struct sockaddr_in to;
    if (!io_parse_address(self, args[2], &to))
        Py_RETURN_NONE;
    Operation *made = (Operation *)io_with_view(self, args, 2, SEND_TO);
    if (made != NULL) {
        made->want = 0;  /* a datagram goes whole or not at all */
        made->to = to;
    }
    return (PyObject *)made;
}

/* (owner, function, writing, a memoryview that the function uses, or None) */
static PyObject *Io_call(Io *self, PyObject *const *args, Py_ssize_t count)
{
    if (io_expect(count, 4) < 0)
        return NULL;
    int writing = PyObject_IsTrue(args[2]);
    if (writing < 0)
        return NULL;
    Operation *made = tpy_new_operation(self, args[0], CALL);
    if (made == NULL)
        return NULL;
    made->function = Py_NewRef(args[1]);
    made->lent = args[3] == Py_None ? NULL : Py_NewRef(args[3]);
    made->writing = (char)writing;
    return (PyObject *)made;
}

static PyObject *Io_take(Io *self, PyObject *size)
{
    Py_ssize_t n = io_size_of(size);
    return n < 0 ? NULL : tpy_take_buffered(self, n);
}

static PyObject *Io_claim(Io *self, PyObject *writing)
{
    int which = PyObject_IsTrue(writing);
    if (which < 0 || tpy_claim(self, which) < 0)
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
    if (value != Py_None && (value == NULL || !PyObject_TypeCheck(value, tpy_Source))) {
        PyErr_Format(PyExc_TypeError, "source must be a Source or None, not %R", value);
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

/* (sent, total) */
static PyObject *Io_cut(Io *self, PyObject *const *args, Py_ssize_t count)
{
    if (io_expect(count, 2) < 0)
        return NULL;
    Py_ssize_t sent = io_size_of(args[0]), total = sent < 0 ? -1 : io_size_of(args[1]);
    if (total < 0)
        return NULL;
    self->cut_sent = sent;
    self->cut_total = total;
    Py_RETURN_NONE;
}

static PyObject *Io_check_whole(Io *self, PyObject *Py_UNUSED(nothing))
{
    if (tpy_check_whole(self) < 0)
        return NULL;
    Py_RETURN_NONE;
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
    {"cut", (PyCFunction)(void (*)(void))Io_cut, METH_FASTCALL, NULL},
    {"check_whole", (PyCFunction)Io_check_whole, METH_NOARGS, NULL},
    {"claim", (PyCFunction)Io_claim, METH_O, NULL},
    {"release", (PyCFunction)Io_release, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Io_members[] = {
    {"closed", T_BOOL, offsetof(Io, closed), 0, NULL},
    {"shared", T_BOOL, offsetof(Io, shared), 0, NULL},
    {"plain", T_BOOL, offsetof(Io, plain), 0, NULL},
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

static const tpy_use io_uses[] = {
    {TPY_USE_OBJECT, "trale_py.base.errors", "BusyResourceError", .place = &io_BusyResourceError},
    {0},
};

const tpy_uses tpy_io_uses = {"io.c", .after = "Io", .table = io_uses};

int tpy_add_io(PyObject *module)
{
    tpy_Io = tpy_add_type(module, &Io_spec, NULL);
    return tpy_Io == NULL || tpy_add_stream(module) < 0 ? -1 : 0;
}
