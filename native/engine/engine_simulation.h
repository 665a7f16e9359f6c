/* What a test puts in the place of the clock, of the order of a batch, and of what the kernel answers:
 * see simulation.py. An engine without one is real. It then looks at one pointer, where it reads the
 * clock for timers and next to each system call, and that is all.
 *
 * A call is planned ahead, and the plan is data: most calls are made where no Python code can run. */
#ifndef TRALE_ENGINE_SIMULATION_H
#define TRALE_ENGINE_SIMULATION_H

#include <stdbool.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* The calls that can be planned, as CALLS in simulation.py has them. */
enum trale_call {
    TRALE_CALL_RECV,
    TRALE_CALL_SEND,
    TRALE_CALL_READ,
    TRALE_CALL_WRITE,
    TRALE_CALL_ACCEPT,
    TRALE_CALL_CONNECT,
    TRALE_CALL_EPOLL_CTL,
    TRALE_CALL_EPOLL_WAIT,
    TRALE_CALL_TIMERFD_SETTIME,
    TRALE_CALL_EVENTFD_WRITE,
    TRALE_CALLS,
};

typedef struct trale_simulation trale_simulation;

trale_simulation *trale_simulation_new(void);  /* real in all. NULL: no memory */
void trale_simulation_free(trale_simulation *s);

/* The clock of timers shows `now`, in ns, until the next call. A negative one: it is the kernel's. */
void trale_simulation_set_now(trale_simulation *s, int64_t now);
bool trale_simulation_now(trale_simulation *s, int64_t *now);  /* false: the clock is the kernel's */

/* Have the tasks of each batch change places, in an order that follows from `seed`. */
void trale_simulation_seed(trale_simulation *s, uint64_t seed);

uint64_t trale_simulation_random(trale_simulation *s);  /* the next number; executor's thread */

/* Of the calls on `fd` (-1: on any), let `after` be as they are, then have `times` fail with errno
 * `error`, or, if that is 0, be about `size` bytes at most. -ENOMEM. */
int trale_simulation_plan(trale_simulation *s, enum trale_call call, int fd, int error, size_t size,
                          uint64_t after, uint64_t times);

/* A call is about to be made, for `size` bytes (or NULL). -errno: it was planned to fail. 0: make it,
 * for as many bytes as `size` says now. */
int trale_simulation_take(trale_simulation *s, enum trale_call call, int fd, size_t *size);

uint64_t trale_simulation_left(trale_simulation *s);  /* how many are planned and have not come */
uint64_t trale_simulation_made(trale_simulation *s, enum trale_call call);  /* how many have come */

#endif
