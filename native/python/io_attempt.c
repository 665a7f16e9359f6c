/* One attempt of an operation: its system call, and what Python is told of it. */

#include "io.h"
#include "simulation.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* What comes of a read is copied from here, as it is mostly much less than was asked for. */
#define SCRATCH 65536
static char attempt_scratch[SCRATCH];

/* From this size on a copy costs more than to ask how much there is. */
#define BIG 16384

/* read(2). Of a pseudo-terminal whose other side is closed it says EIO, which is the end here: only the
 * master has a number. */
static Py_ssize_t attempt_read(int fd, char *place, Py_ssize_t size)
{
    unsigned int number;
    ssize_t got = read(fd, place, size);
    return got < 0 && errno == EIO && ioctl(fd, TIOCGPTN, &number) == 0 ? 0 : got;
}

static Py_ssize_t attempt_receive(Io *io, char *place, Py_ssize_t size)
{
    ssize_t got;
    do {
        got = io->plain ? attempt_read(io->fd, place, size) : recv(io->fd, place, size, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

/* write(2), without the SIGPIPE that it may raise: a program may have given that its deadly meaning back. */
static ssize_t attempt_write(int fd, const char *place, Py_ssize_t size)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
        return write(fd, place, size);
    sigset_t sigpipe, before;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
    ssize_t n = write(fd, place, size);
    int error = errno;
    if (n < 0 && error == EPIPE)
        sigtimedwait(&sigpipe, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return n;
}

static ssize_t attempt_send(Io *io, const char *place, Py_ssize_t size)
{
    if (io->plain)
        return attempt_write(io->fd, place, size);
    /* MSG_NOSIGNAL: see attempt_write. */
    return send(io->fd, place, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* -errno, or how many bytes are in `result`, a new bytes object. `asked`: how many were wanted. */
static Py_ssize_t attempt_receive_bytes(Io *io, Py_ssize_t *asked, PyObject **result)
{
    int there = 0;
    Py_ssize_t got;
    if (io->big && ioctl(io->fd, FIONREAD, &there) == 0 && there >= BIG) {
        /* What comes after this look is told by an event after this look. */
        Py_ssize_t size = there < *asked ? there : *asked;
        PyObject *data = PyBytes_FromStringAndSize(NULL, size);
        if (data == NULL)
            return -ENOMEM;
        got = attempt_receive(io, PyBytes_AsString(data), size);
        if (got == size)
            *result = data;
        else if (got >= 0)
            *result = PyBytes_FromStringAndSize(PyBytes_AsString(data), got);
        if (*result != data)
            DECREF(data);
    } else {
        if (*asked > SCRATCH)
            *asked = SCRATCH;
        got = attempt_receive(io, attempt_scratch, *asked);
        if (got >= 0)
            *result = PyBytes_FromStringAndSize(attempt_scratch, got);
    }
    if (got >= 0) {
        io->big = got >= BIG;
        if (*result == NULL)
            return -ENOMEM;
    }
    return got;
}

static Py_ssize_t attempt_call(Operation *self, PyObject **result)
{
    *result = PyObject_CallFunctionObjArgs(self->function, NULL);
    if (*result != NULL)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError))
        return -EIO;  /* the exception is set and says more */
    PyErr_Clear();
    return -EAGAIN;
}

/* How the socket module shows an address; NULL with an exception set. */
static PyObject *attempt_show_address(const struct sockaddr_storage *from)
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

static Py_ssize_t attempt_receive_from(Io *io, PyObject **result)
{
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    ssize_t got;
    do {
        got = recvfrom(io->fd, attempt_scratch, SCRATCH, MSG_DONTWAIT, (struct sockaddr *)&from,
                       &length);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    PyObject *address = attempt_show_address(&from);
    PyObject *data = address == NULL ? NULL : PyBytes_FromStringAndSize(attempt_scratch, got);
    if (data != NULL)
        *result = PyTuple_Pack(2, data, address);
    XDECREF(data);
    XDECREF(address);
    return *result == NULL ? -ENOMEM : got;
}

static Py_ssize_t attempt_send_to(Operation *self, PyObject **result)
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

static int attempt_which_call(Operation *self)
{
    bool plain = self->io->plain;
    if (self->kind == CALL)
        return tpy_call_made_by(self);
    if (self->writing)
        return plain ? TRALE_CALL_WRITE : TRALE_CALL_SEND;
    return plain ? TRALE_CALL_READ : TRALE_CALL_RECV;
}

/* In a simulation. 0: make the call, for as many bytes as `asked` says now. */
static Py_ssize_t attempt_planned(Operation *self, trale_simulation *simulation, Py_ssize_t *asked)
{
    int call = attempt_which_call(self);
    return call < 0 ? -EIO : tpy_take_call(simulation, call, self->io->fd, asked);
}

Py_ssize_t tpy_attempt(Operation *self, trale_simulation *simulation, Py_ssize_t *asked, PyObject **result)
{
    char *place = (char *)self->view.buf;
    Py_ssize_t n = simulation == NULL ? 0 : attempt_planned(self, simulation, asked);
    if (n < 0)
        return n;
    switch (self->kind) {
    case RECV:
    case FILL:
        return attempt_receive_bytes(self->io, asked, result);
    case RECV_INTO:
        n = attempt_receive(self->io, place, *asked);
        break;
    case SEND:
    case SEND_ALL:
        do {
            n = attempt_send(self->io, place + self->sent, *asked);
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
        return attempt_receive_from(self->io, result);
    case SEND_TO:
        return attempt_send_to(self, result);
    default:
        return attempt_call(self, result);
    }
    if (n >= 0 && (*result = PyLong_FromSsize_t(n)) == NULL)
        return -ENOMEM;
    return n;
}
