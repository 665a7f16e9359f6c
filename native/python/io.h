/* Io, what a socket is to its operations, and Operation, which tasks await: see streams/io.py.
 *
 *     io.c         Io; it makes the operations
 *     operation.c  an operation from its first poll to its last: begin, then try until it is done
 *     attempt.c    one system call, for each kind of operation
 */
#ifndef TPY_IO_H
#define TPY_IO_H

#include "leaf.h"

#include <netinet/in.h>

typedef struct {
    PyObject_HEAD
    Source *source;    /* NULL before the first operation, and after the close */
    PyObject *buffer;  /* a bytearray: read from the socket, not yet by the user; or NULL */
    Py_ssize_t cut_sent, cut_total;  /* an earlier send_all sent so much of so many bytes */
    int fd;
    int family;  /* AF_UNSPEC: not asked yet */
    char closed;
    char shared;  /* others know the descriptor: see R33 in streams/descriptor.py */
    char plain;   /* not a socket: read(2) and write(2) */
    char reading, writing;  /* an operation of that kind is in progress */
    char big;               /* the last read was */
} Io;

extern PyTypeObject *tpy_Io;

enum kind { RECV, FILL, RECV_INTO, SEND, SEND_ALL, RECV_FROM, SEND_TO, CALL, KINDS };

typedef struct {
    Leaf leaf;
    PyObject *owner;  /* the socket that Io belongs to */
    Io *io;
    RunQueue *run_queue;  /* of the executor that polls it */
    trale_waiter waiter;
    PyObject *function;  /* CALL */
    PyObject *lent;      /* CALL: a memoryview that the function uses, or NULL */
    Py_buffer view;      /* RECV_INTO, SEND, SEND_ALL, SEND_TO; until the end */
    Py_ssize_t want;     /* how many bytes it asks for; 0: not known */
    Py_ssize_t sent;     /* SEND_ALL */
    struct sockaddr_in to;  /* SEND_TO */
    enum kind kind;
    char writing;  /* which direction */
    char begun;    /* what comes before the first try is done */
    char claimed;  /* io->reading or io->writing is ours */
} Operation;

int tpy_claim(Io *io, int writing);    /* -1: BusyResourceError is set */
PyObject *tpy_take_buffered(Io *io, Py_ssize_t n);  /* at most `n` bytes out of the buffer */
int tpy_check_whole(Io *io);  /* -1: a part of something was sent; an error is set */

/* One system call, with the GIL, as none of them waits. -errno, or how many bytes it was about, of
 * so many asked for; with a CALL's -errno there may be an exception, which says more. */
Py_ssize_t tpy_attempt(Operation *self, trale_simulation *simulation, Py_ssize_t *asked, PyObject **result);

/* An operation of that kind calls what Python code has given it: which call that is, see streams/io.py.
 * -1: an exception is set. */
int tpy_call_made_by(Operation *self);

/* NULL with an exception set. Of `n` bytes at most; of a contiguous buffer. */
Operation *tpy_new_operation(Io *io, PyObject *owner, enum kind kind);
Operation *tpy_new_receiving(Io *io, PyObject *owner, enum kind kind, Py_ssize_t n);
Operation *tpy_new_viewing(Io *io, PyObject *owner, enum kind kind, PyObject *data);

int tpy_add_stream(PyObject *module);

#endif
