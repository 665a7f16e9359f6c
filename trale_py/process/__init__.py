"""Programs: started, fed, read from, waited for and ended by tasks.

============================  ==========================================================
``run(args)``                 a program from its start to its end, as subprocess.run
``Process.spawn(args)``       one that runs beside this one; its pipes are byte streams
============================  ==========================================================

``PIPE``, ``DEVNULL``, ``STDOUT``, ``CompletedProcess`` and ``CalledProcessError`` are subprocess's.
"""

from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, CompletedProcess

from .process import Process
from .running import TimeoutExpired, run

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Process",
    "TimeoutExpired",
    "run",
]


def __dir__() -> list[str]:
    return sorted(__all__)
