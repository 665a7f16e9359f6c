"""Objects by which tasks and threads wait for each other. Read waiters.py first.

A forked child makes its own, and its own channels: the lock inside each stays locked in the child
if another thread held it at the fork, and its waiters are in the parent. An EventFd may be
used by both.
"""

from .barrier import Barrier
from .capacity_limiter import CapacityLimiter
from .condition import Condition
from .event import Event
from .event_fd import EventFd
from .mutex import Guard, Mutex
from .notify import Notify
from .once_cell import OnceCell
from .rwlock import RwGuard, RwLock
from .semaphore import BoundedSemaphore, Semaphore
from .stop_token import StopToken

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "CapacityLimiter",
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
    "StopToken",
]
