"""A task's life as a table: states x events -> the next state, and what the caller must do.

    NEW --PUSH--> QUEUED --TAKE--> TAKEN --POLL--> WAITING --WAKE--> QUEUED ...
                                                      |
                                                      +--END--> ENDED

A task is WAITING from just before its poll (R2): a wake during the poll queues it, and the poll may
still end it there. Cancelling is a mark that the next poll sees, and then a WAKE. A task that is
given up at its runtime's end has an END like any other; the first END settles it (R15).

Pure: no threads, no locks. Each engine has a faster form. In C it is ``trale_state``, a number in
each task's cell. In Python it is where the task is: in the inbox of the run-queue, in its
``waiting``, or in neither. Tests compare both with this table, event by event in each state. One
mistake is not refused in Python, QUEUED and POLL: whether a wake has queued the task would be a
second step of the thread that wakes, and that may come late. It does no harm there, as the task's
second turn finds it in ``waiting`` no more.
"""

from __future__ import annotations

from typing import Final

# The states, with the numbers of trale_state in native/engine/engine.h.
NEW: Final = 0  # never queued
WAITING: Final = 1  # a wake will queue it; also while it is polled
QUEUED: Final = 2  # in the queue
TAKEN: Final = 3  # taken from the queue, and not yet polled
ENDED: Final = 4

# The events.
PUSH: Final = "push"  # by spawn
TAKE: Final = "take"  # its turn in the queue has come
POLL: Final = "poll"  # the executor is about to poll it
WAKE: Final = "wake"  # by a waker, from any thread
END: Final = "end"  # its coroutine has returned or raised, or it is given up

# What the caller must do.
NOTHING: Final = "nothing"
QUEUE: Final = "put it in the queue, and wake the executor"
RUN: Final = "poll it"
SETTLE: Final = "take it out of the tables, and tell its outcome to its waiters"
REFUSE: Final = "raise: the caller has made a mistake"

STATES: Final = (NEW, WAITING, QUEUED, TAKEN, ENDED)
EVENTS: Final = (PUSH, TAKE, POLL, WAKE, END)

TABLE: Final[dict[tuple[int, str], tuple[int, str]]] = {
    (NEW, PUSH): (QUEUED, QUEUE),
    (NEW, TAKE): (NEW, NOTHING),  # it is not in the queue; so in WAITING and TAKEN
    (NEW, POLL): (WAITING, RUN),
    (NEW, WAKE): (NEW, NOTHING),  # its first poll is still to come
    (NEW, END): (ENDED, SETTLE),
    (WAITING, PUSH): (WAITING, REFUSE),
    (WAITING, TAKE): (WAITING, NOTHING),
    (WAITING, POLL): (WAITING, RUN),
    (WAITING, WAKE): (QUEUED, QUEUE),
    (WAITING, END): (ENDED, SETTLE),
    (QUEUED, PUSH): (QUEUED, REFUSE),
    (QUEUED, TAKE): (TAKEN, RUN),
    (QUEUED, POLL): (QUEUED, REFUSE),  # R43
    (QUEUED, WAKE): (QUEUED, NOTHING),  # the poll that is still to come sees what it is about
    (QUEUED, END): (ENDED, SETTLE),  # woken during its last poll, or given up
    (TAKEN, PUSH): (TAKEN, REFUSE),
    (TAKEN, TAKE): (TAKEN, NOTHING),
    (TAKEN, POLL): (WAITING, RUN),
    (TAKEN, WAKE): (TAKEN, NOTHING),  # as in QUEUED
    (TAKEN, END): (ENDED, SETTLE),
    (ENDED, PUSH): (ENDED, REFUSE),
    (ENDED, TAKE): (ENDED, NOTHING),  # it was still in the queue
    (ENDED, POLL): (ENDED, REFUSE),
    (ENDED, WAKE): (ENDED, NOTHING),  # a waker may outlive its task
    (ENDED, END): (ENDED, NOTHING),  # another has settled it
}
