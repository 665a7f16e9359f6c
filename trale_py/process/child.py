"""Child: a program that was started, as the kernel knows it.

The kernel tells of its end by a pidfd, which means this process and no later one of the same
number. No SIGCHLD is needed, so it makes no difference in which thread the executor is, and
handlers of SIGCHLD are left alone. See pidfd_open(2).

A process that has ended stays, as a zombie, until it is reaped. As long as it is not, its number
cannot be another's, nor the number of its group. So it is reaped late: when no code will signal the
group any more.

Other code may reap it first, by ``os.wait()`` or by ignoring SIGCHLD. Then it is not known how it
ended.
"""

from __future__ import annotations

import contextlib
import os
import signal

from ..core.future import PENDING, Pending, Ready
from ..core.leaf import Operation
from ..core.registration import Interest, Registration
from ..core.waker import Context


class Child:
    """A program that runs, or has ended. ``pidfd`` is this object's; None once it is closed."""

    def __init__(self, pid: int, *, is_group: bool) -> None:
        """OSError if there is no descriptor to be had."""
        self.pid: int = pid
        self.is_group: bool = is_group  # its number is that of a group, which is its own
        self.returncode: int | None = None  # as subprocess has it: -9 for SIGKILL
        self.lost: bool = False  # other code has reaped it
        self.waiting: int = 0  # how many tasks wait for the pidfd
        self._parent = os.getpid()
        self._reaped = False
        self.pidfd: int | None = None
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.lost = True
        self.look()  # the number may mean a stranger by now: that is no child of ours

    @property
    def is_ours(self) -> bool:
        """False in a fork's child, whose sibling it is."""
        return os.getpid() == self._parent

    def look(self) -> bool:
        """Whether it has ended. Never waits, and does not reap."""
        if self.returncode is None and not self.lost and self.pidfd is not None:
            try:
                info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self.lost = True
            else:
                if info is not None:
                    exited = info.si_code == os.CLD_EXITED
                    self.returncode = info.si_status if exited else -info.si_status
        return self.lost or self.returncode is not None

    def signal(self, signum: int) -> None:
        """Send it, and the rest of its group, a signal. Nothing if it is reaped. OSError."""
        self.look()
        if self._reaped or self.lost or self.pidfd is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.is_group:
                os.killpg(self.pid, signum)
            else:
                signal.pidfd_send_signal(self.pidfd, signum)

    def reap(self) -> None:
        """It has ended, and no code will signal it any more. May be called again."""
        if not self._reaped:
            self._reaped = True
            if self.pidfd is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        if not self.waiting:
            self.close()

    def end(self) -> None:
        """Kill it, wait for its end, and reap it. Waits, so a thread calls it."""
        self.signal(signal.SIGKILL)
        if self.pidfd is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        self.look()
        self.reap()

    def close(self) -> None:
        pidfd, self.pidfd = self.pidfd, None
        if pidfd is not None:
            os.close(pidfd)

    def __del__(self) -> None:
        if getattr(self, "pidfd", None) is not None:
            self.close()


class EndOf(Operation[None]):
    """Wait until the kernel says that a child has ended. It may be wrong: look."""

    __slots__ = ("_child", "_registration")

    def __init__(self, child: Child) -> None:
        self._child = child
        self._registration: Registration | None = None
        super().__init__()

    def _advance(self, cx: Context) -> Ready[None] | Pending:
        if self._registration is not None:
            if self._registration._error is not None:
                raise self._registration._error
            if self._registration._fired:
                self._take_back()
                return Ready(None)
        if self._child.look() or self._child.pidfd is None:
            self._take_back()
            return Ready(None)
        if self._registration is None:
            self._child.waiting += 1
        else:
            self._registration.cancel()
        self._registration = cx._runtime.reactor.register_waker(
            self._child.pidfd, cx.waker, Interest.READABLE
        )
        return PENDING

    def _delivered(self) -> bool:
        return self._child.look()

    def _take_back(self) -> None:
        registration, self._registration = self._registration, None
        if registration is not None:
            registration.cancel()
            self._child.waiting -= 1

    def __repr__(self) -> str:
        return f"<end of process {self._child.pid}>"
