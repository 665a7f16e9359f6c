/* BaseStream: its read and write_all, which a server comes through for every message. See
 * streams/base_stream.py. */

#include "io.h"
#include "registry.h"

static PyObject *base_stream_python_read, *base_stream_python_write_all;  /* the Python versions */

/* What read() takes at most, if it is not told: see streams/base_stream.py. */
#define CHUNK 65536

typedef struct {
    PyObject_HEAD
    Io *io;
} BaseStream;

static PyObject *base_stream_read_usual(BaseStream *self, PyObject *number)
{
    Py_ssize_t n = number == NULL ? CHUNK : PyLong_AsSsize_t(number);
    if (n <= 0) {
        PyErr_Clear();
        return NULL;
    }
    return (PyObject *)tpy_new_receiving(self->io, (PyObject *)self, RECV, n);
}

/* read(n=CHUNK) */
static PyObject *BaseStream_read(BaseStream *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords)
{
    PyObject *number = count == 1 ? args[0] : NULL;
    if (self->io != NULL && keywords == NULL
        && (count == 0 || (count == 1 && PyLong_CheckExact(number)))) {
        PyObject *made = base_stream_read_usual(self, number);
        if (made != NULL || PyErr_Occurred())
            return made;
    }
    return tpy_call_python(base_stream_python_read, self, args, count, keywords);
}

/* write_all(data) */
static PyObject *BaseStream_write_all(BaseStream *self, PyObject *const *args, Py_ssize_t count,
                                      PyObject *keywords)
{
    if (self->io != NULL && keywords == NULL && count == 1 && PyBytes_CheckExact(args[0]))
        return (PyObject *)tpy_new_viewing(self->io, (PyObject *)self, SEND_ALL, args[0]);
    return tpy_call_python(base_stream_python_write_all, self, args, count, keywords);
}

static PyObject *BaseStream_get_io(BaseStream *self, void *Py_UNUSED(closure))
{
    if (self->io == NULL)
        PyErr_SetString(PyExc_AttributeError, "_io");
    return Py_XNewRef((PyObject *)self->io);
}

static tpy_field BaseStream_io = {"_io", offsetof(BaseStream, io), &tpy_Io, false};

static void BaseStream_dealloc(BaseStream *self)
{
    XDECREF(self->io);
    tpy_free_object(self);
}

static PyMethodDef BaseStream_methods[] = {
    {"read", TPY_FAST(BaseStream_read), NULL},
    {"write_all", TPY_FAST(BaseStream_write_all), NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef BaseStream_getset[] = {
    {"_io", (getter)BaseStream_get_io, (setter)tpy_set_field, NULL, &BaseStream_io},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot BaseStream_slots[] = {
    {Py_tp_dealloc, BaseStream_dealloc},
    {Py_tp_methods, BaseStream_methods},
    {Py_tp_getset, BaseStream_getset},
    {0, NULL},
};

static PyType_Spec BaseStream_spec = {
    .name = "trale_py._native.BaseStream",
    .basicsize = sizeof(BaseStream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = BaseStream_slots,
};

int tpy_add_stream(PyObject *module)
{
    return tpy_add_type(module, &BaseStream_spec, NULL) == NULL ? -1 : 0;
}

static const tpy_use base_stream_uses[] = {
    {TPY_USE_OBJECT, "BaseStream", "read", .place = &base_stream_python_read},
    {TPY_USE_OBJECT, "BaseStream", "write_all", .place = &base_stream_python_write_all},
    {TPY_USE_NUMBER, "trale_py.streams.byte_stream", "CHUNK", .number = CHUNK},
    {0},
};

const tpy_uses tpy_base_stream_uses = {"base_stream.c", .after = "BaseStream", .table = base_stream_uses};
