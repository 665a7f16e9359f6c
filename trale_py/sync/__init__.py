"""Objects by which tasks and threads wait for each other."""

from .event import Event
from .mutex import Guard, Mutex
from .notify import Notify
from .semaphore import Semaphore

__all__ = ["Event", "Guard", "Mutex", "Notify", "Semaphore"]
