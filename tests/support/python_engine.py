"""The Python versions of the inner classes, whichever engine is in use."""

from __future__ import annotations

from typing import Any

from trale_py.channel import queue_core as channel_core  # noqa: F401  # has its part accelerated
from trale_py.core import poller, run_queue
from trale_py.core.engine import python_version

RunQueue: Any = python_version("RunQueue")
Waker: Any = python_version("Waker")
Context: Any = python_version("Context")
Poller: Any = python_version("Poller")
Source: Any = python_version("Source")
TimerEntry: Any = python_version("TimerEntry")
Io: Any = python_version("Io")
SemaphoreCore: Any = python_version("SemaphoreCore")
GuardCore: Any = python_version("GuardCore")
LockCore: Any = python_version("LockCore")
QueueCore: Any = python_version("QueueCore")

# What the Python versions make of each other. Nobody else uses these names of the two modules.
vars(run_queue).update(Context=Context, Waker=Waker)
vars(poller).update(Source=Source, TimerEntry=TimerEntry)
