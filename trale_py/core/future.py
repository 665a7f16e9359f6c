"""Future: something that can be polled. The one place where a task gives way.

Python's ``await`` and Rust's ``poll`` meet here. A coroutine that awaits runs down to a
leaf, and every leaf is a Future: its ``poll`` either has the value, or keeps the waker
and is PENDING. Then ``poll_until_ready`` yields, all the way up to the executor, and
this is the only yield in the package. When the task is woken, the executor resumes the
coroutine, which comes out of that yield and polls again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, Generic, TypeVar, final

from . import current
from .waker import Context

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@final
class Ready(Generic[T_co]):
    """What ``poll`` returns when the future is done: ``Ready(value)``."""

    __slots__ = ("value",)

    def __init__(self, value: T_co) -> None:
        self.value: T_co = value

    def __repr__(self) -> str:
        return f"Ready({self.value!r})"


@final
class Pending:
    """The type of PENDING, which ``poll`` returns when the future must wait."""

    __slots__ = ()

    def __repr__(self) -> str:  # what another event loop shows that was handed one of our futures
        return "<PENDING: awaits trale_py's executor>"


PENDING: Final[Pending] = Pending()


class Future(Generic[T_co]):
    """Base class for things to await that are written by hand: subclass and write ``poll``.

    ::

        class Countdown(Future[str]):
            def __init__(self, n: int) -> None:
                self.n = n

            def poll(self, cx: Context) -> Ready[str] | Pending:
                if self.n == 0:
                    return Ready("lift-off")
                self.n -= 1
                cx.waker.wake()  # nothing else would: see Waker
                return PENDING

        assert spawn(Countdown(3)).join() == "lift-off"

    An await counts as one operation: a task that has done 128 in one turn without
    waiting is put at the end of the run-queue.

    After `std::future::Future <https://doc.rust-lang.org/std/future/trait.Future.html>`_.
    """

    __slots__ = ()

    def poll(self, cx: Context) -> Ready[T_co] | Pending:
        """Try to finish: return ``Ready(value)``, or see to a wake and return PENDING.

        Called on the executor's thread; must not block. It may be called at any time,
        woken or not, and must then hand ``cx.waker`` on anew. What it raises comes out
        of the await. It is not called again after Ready.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define poll()")

    def drop(self) -> None:
        """Called once if the await ends before Ready: cancelled, closed, or by an error.

        Take back here what ``poll`` has registered, and pass on what was received and
        not used. The default does nothing.
        """

    def _delivered(self) -> bool:
        """For the library's own: what it waits for has happened, and cannot be given to another.

        Asked once, when the task is cancelled while it waits here (see Task.poll). True: the
        next ``poll`` is Ready, and the await returns. False: the wait is over, and whatever
        happens from now on is for others.
        """
        return False

    def _describe(self) -> str:
        """What an await of it waits for, in words: ``"recv of <Receiver ...>"``. Any thread.

        Cold: ``describe`` in coroutine.py asks. The repr of each leaf of the library says it.
        """
        return repr(self).removeprefix("<").removesuffix(">")

    def __await__(self) -> Generator[Pending, None, T_co]:
        return poll_until_ready(self, self.poll)


def poll_until_ready(
    future: Future[T], poll: Callable[[Context], Ready[T] | Pending]
) -> Generator[Pending, None, T]:
    """What an await does: it polls, and gives way as long as that is PENDING."""
    finished = False
    charged = False
    refused = False  # it was to begin in a cancelled scope
    try:
        while True:
            cx = current.thread.context
            if cx is None:
                finished = True  # that is seen to there
                return (yield from _outside_of_tasks(future, poll))
            if cx._last_look:  # the task is cancelled: see Task.poll
                if refused or not future._delivered():
                    yield PENDING
                    continue
                cx._last_look = False
            elif not charged:
                cx._budget -= 1
                refused = cx._cancelled
                if cx._budget < 0 or refused:
                    cx.waker.wake()  # cancelled: the executor throws at that turn
                    yield PENDING
                    continue
                charged = True
            step = poll(cx)
            if isinstance(step, Ready):
                finished = True
                return step.value
            if step is not PENDING:
                raise TypeError(
                    f"{type(future).__name__}.poll() returned {step!r}; "
                    "it must return Ready(value) or PENDING"
                )
            yield PENDING
    finally:
        if not finished:
            future.drop()


def _outside_of_tasks(
    future: Future[T], poll: Callable[[Context], Ready[T] | Pending]
) -> Generator[Any, None, T]:
    """The same in a coroutine that no task runs: asyncio's, or one that is driven by hand.

    Asyncio's code waits for a future of asyncio's, which the wake of ``cx`` completes. For all
    others PENDING is yielded; they will say in their own words what they make of that.
    """
    steps = poll_until_ready(future, poll)
    begun = False
    try:
        while current.thread.context is None:
            cx = guest_context()
            if cx is None:
                yield PENDING
                continue
            current.thread.context = cx
            begun = True
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            finally:
                current.thread.context = None
            yield guest_wait(cx)
        begun = True
        return (yield from steps)
    finally:
        if begun:
            steps.close()
        else:
            future.drop()
        del steps  # or the traceback of an error would lead back to it


def guest_context() -> Context | None:
    """What asyncio code that this thread is running polls with. None: it runs none."""
    if current.thread.runtime is None:
        return None
    cx: Context | None = current.foreign_loop.enter()
    return cx


def guest_wait(cx: Context) -> object:
    """What that code yields, to be resumed when ``cx`` is woken."""
    return current.foreign_loop.wait(cx)
