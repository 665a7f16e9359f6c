"""What a run borrows of the thread that it makes the executor, and puts back.

The hooks of async generators, asyncio's running loop, what sniffio says, and on the main thread
SIGINT's handler and the wakeup fd of ``signal``.

Python runs signal handlers on the main thread, between two bytecodes. While that thread sleeps in
``next_batch`` there are none. So the wakeup fd is one end of a socketpair (``signal`` sends one
byte, which an eventfd refuses), and the reactor watches the other end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from . import current, process_exit
from .registration import Interest, Registration
from .run_queue import ASYNCIO


class Borrowed:
    """A list of what is to be undone. Each entry may be undone twice, and is made before its deed.

    ``put_back`` goes on where an earlier call was cut off by an exception.
    """

    def __init__(self, runtime: Any, ctrl_c: CtrlC) -> None:
        self._runtime = runtime  # a Runtime
        self._ctrl_c = ctrl_c
        self._undo: list[Callable[[], object]] = []
        self._watch: SignalWatch | None = None

    def claim(self) -> bool:
        """Be the runtime's executor. False: another thread is."""
        executor = self._runtime.executor
        self._undo.append(executor._release)
        return bool(executor._take())

    def take(self) -> None:
        self._undo.append(partial(sys.set_asyncgen_hooks, *sys.get_asyncgen_hooks()))
        loop = None
        if ASYNCIO in sys.modules:
            loop = sys.modules[ASYNCIO]._get_running_loop()
        self._undo.append(partial(_set_running_loop, loop))
        _set_running_loop(None)
        if "sniffio" in sys.modules:
            name = getattr(sys.modules["sniffio"].thread_local, "name", None)
            self._undo.append(partial(_set_sniffio, name))
        _borrowed[self] = None
        self._undo.append(partial(_borrowed.pop, self, None))

    def take_signals(self) -> None:
        """On the main thread, when the reactor runs."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._undo.append(self._close_watch)
        self._watch = SignalWatch(self._runtime)
        self._watch.start()
        self._undo.append(self._ctrl_c.put_back)
        self._ctrl_c.take()

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def put_back(self) -> None:
        while self._undo:
            self._undo[-1]()
            self._undo.pop()

    def after_fork_in_child(self) -> None:
        """What is the process's; the rest is the thread's, which does not come back here."""
        if self._watch is not None:
            self._watch.close()
            self._ctrl_c.put_back()


_borrowed: dict[Borrowed, None] = {}  # by runs that are under way


def _after_fork_in_child() -> None:
    for one in list(_borrowed):
        one.after_fork_in_child()
    _borrowed.clear()


process_exit.after_fork.append(_after_fork_in_child)


def _set_running_loop(loop: object) -> None:
    asyncio: Any = sys.modules.get(ASYNCIO)
    if hasattr(asyncio, "_set_running_loop"):  # it may be half imported, by another thread
        asyncio._set_running_loop(loop)


def _set_sniffio(name: str | None) -> None:
    sys.modules["sniffio"].thread_local.name = name


class SignalWatch:
    """Has the executor, which is the main thread, come up when a signal has come.

    R62: ``signal`` tells its wakeup fd only when another is set. A handler that raises may come
    between that call and the store of what it told::

        start: set_wakeup_fd(ours)         a handler raises; what was there before is in no variable
        close: set_wakeup_fd(-1)

    The program would never get its own fd back. So one C call sets it and stores what it told.
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self._before: list[int] = []  # the wakeup fd that ours has replaced, once it has
        self._after: list[int] = []  # the one that was there at the close
        self._fd = -1
        self._registration: Registration | None = None

    def start(self) -> None:
        self._fd = self._outer.fileno()
        replace = partial(signal.set_wakeup_fd, warn_on_full_buffer=False)
        self._before.extend(map(replace, (self._fd,)))
        self._arm()

    def _arm(self) -> None:
        self._registration = self._runtime.reactor.register_waker(
            self._inner.fileno(), self, Interest.READABLE
        )

    def wake(self) -> None:
        self._runtime.publish(self._pass_on)

    def _pass_on(self) -> None:
        """Executor's thread. Python has run the handlers on the way here."""
        if self._runtime.gone or self._fd < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while data := self._inner.recv(4096):
                if self._before[0] >= 0:
                    with contextlib.suppress(OSError):
                        os.write(self._before[0], data)
        self._arm()

    def close(self) -> None:
        if self._before and self._fd >= 0:
            if not self._after:
                self._after.extend(map(signal.set_wakeup_fd, self._before))
            if self._after[0] != self._fd:  # other code has set one meanwhile: it stays
                signal.set_wakeup_fd(self._after[0])
        self._fd = -1
        if self._registration is not None and not self._runtime.gone:
            self._registration.cancel()
        self._inner.close()
        self._outer.close()


class CtrlC:
    """SIGINT's handler during a run, in the place of Python's own.

    The first Ctrl-C cancels main, the second one ends the run at once. Without main, as in a
    shutdown, the first one does.
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._main: int | None = None  # the id of its task
        self._taken = False
        self.count: int = 0
        self.stopped: bool = False

    def watch(self, main: int) -> None:
        self._main = main

    def take(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        usual = before is signal.default_int_handler or isinstance(before, CtrlC)
        if usual and not process_exit.is_received(signal.SIGINT):
            self._taken = True
            signal.signal(signal.SIGINT, self)

    def put_back(self) -> None:
        # A receiver of tasks' stands before it now, and setting one would end that. Then we stay,
        # and do what Python's own handler does.
        is_ours = self._taken and signal.getsignal(signal.SIGINT) is self
        if is_ours and not process_exit.is_received(signal.SIGINT):
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._taken = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self._taken:
            signal.default_int_handler(signum, frame)
        self.count += 1
        if self.count == 1 and self._main is not None:
            # Not at once: it may have interrupted the executor in the midst of a step.
            self._runtime.publish(partial(self._runtime.cancel, self._main, "Ctrl-C"))
            return
        self.stopped = True
        executor = self._runtime.executor
        executor._stop()
        self._runtime.publish(executor._stop)
        if current.thread.context is not None:  # in a task, which may never give way
            raise KeyboardInterrupt
