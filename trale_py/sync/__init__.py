"""Objects by which tasks and threads wait for each other. Read wait_queue.py first."""

from .barrier import Barrier
from .condition import Condition
from .event import Event
from .event_fd import EventFd
from .mutex import Guard, Mutex
from .notify import Notify
from .once_cell import OnceCell
from .rwlock import RwGuard, RwLock
from .semaphore import Semaphore

__all__ = [
    "Barrier",
    "Condition",
    "Event",
    "EventFd",
    "Guard",
    "Mutex",
    "Notify",
    "OnceCell",
    "RwGuard",
    "RwLock",
    "Semaphore",
]
