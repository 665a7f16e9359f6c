/* BaseStream: its read and write_all, which a server comes through for every message. See
 * net/stream.py. */

#include "io.h"
#include "task.h"

static PyObject *plain_read, *plain_write_all;  /* the names */

typedef struct {
    PyObject_HEAD
    Io *io;
} BaseStream;

static PyObject *read_usual(BaseStream *self, PyObject *number)
{
    Py_ssize_t n = number == NULL ? 65536 : PyLong_AsSsize_t(number);
    if (n <= 0) {
        PyErr_Clear();
        return NULL;
    }
    return (PyObject *)trale_new_receiving(self->io, (PyObject *)self, RECV, n);
}

/* read(n=65536) */
static PyObject *BaseStream_read(BaseStream *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords)
{
    PyObject *number = count == 1 ? args[0] : NULL;
    if (self->io != NULL && keywords == NULL
        && (count == 0 || (count == 1 && PyLong_CheckExact(number)))) {
        PyObject *made = read_usual(self, number);
        if (made != NULL || PyErr_Occurred())
            return made;
    }
    return trale_call_plain(self, plain_read, args, count, keywords);
}

/* write_all(data) */
static PyObject *BaseStream_write_all(BaseStream *self, PyObject *const *args, Py_ssize_t count,
                                      PyObject *keywords)
{
    if (self->io != NULL && keywords == NULL && count == 1 && PyBytes_CheckExact(args[0]))
        return (PyObject *)trale_new_viewing(self->io, (PyObject *)self, SEND_ALL, args[0]);
    return trale_call_plain(self, plain_write_all, args, count, keywords);
}

static PyObject *BaseStream_get_io(BaseStream *self, void *Py_UNUSED(closure))
{
    if (self->io == NULL)
        PyErr_SetString(PyExc_AttributeError, "_io");
    return Py_XNewRef((PyObject *)self->io);
}

static int BaseStream_set_io(BaseStream *self, PyObject *value, void *Py_UNUSED(closure))
{
    return trale_set_typed((PyObject **)&self->io, value, trale_Io);
}

static void BaseStream_dealloc(BaseStream *self)
{
    XDECREF(self->io);
    trale_free_object(self);
}

static PyMethodDef BaseStream_methods[] = {
    {"read", TRALE_FAST(BaseStream_read), NULL},
    {"write_all", TRALE_FAST(BaseStream_write_all), NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef BaseStream_getset[] = {
    {"_io", (getter)BaseStream_get_io, (setter)BaseStream_set_io, NULL, NULL},
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

int trale_add_stream(PyObject *module)
{
    if ((plain_read = PyUnicode_InternFromString("plain_read")) == NULL
        || (plain_write_all = PyUnicode_InternFromString("plain_write_all")) == NULL)
        return -1;
    return trale_add_type(module, &BaseStream_spec, NULL) == NULL ? -1 : 0;
}
