"""Objects by which tasks wait for each other: Event, Notify, Mutex."""

from .event import Event
from .mutex import Guard, Mutex
from .notify import Notify

__all__ = ["Event", "Guard", "Mutex", "Notify"]
