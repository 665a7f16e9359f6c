"""Tasks and threads that wait, one step at a time: for objects beside their models.

The threads wait by the real ``_blocking`` calls. Only their sleep is not the kernel's: a thread
that would sleep says so, and looks whether it was woken when it is told to look. So it is known
when a thread waits and when it has had its turn, and it can come too late in the very moment in
which it is let through.

An ``Against`` is an object and its model, which is made of a few plain fields: ``line``, who
waits, in order, and ``ended``, what has become of the others. Each step is done to both.
"""

from __future__ import annotations

import queue
import select
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st

from tests.support.net_helpers import TIMEOUT, executor_turn
from trale_py import TaskCancelled, block_on, spawn
from trale_py.core.latch import acquire_lock
from trale_py.sync import event_fd
from trale_py.sync import waiters as sync_waiters

LEFT = "left"  # what becomes of those that are cancelled or come too late

_local = threading.local()  # .waiter: the InThread that this thread is


class InTask:
    """Waits in a task."""

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._handle = spawn(self._run(coro))

    async def _run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coro
        except Exception as error:
            return type(error)

    def look(self) -> None:
        pass

    def ended(self) -> bool:
        return self._handle.done()

    def leave(self) -> None:
        self._handle.cancel()

    def outcome(self) -> Any:
        try:
            return self._handle.join(TIMEOUT)
        except TaskCancelled:
            return LEFT


class InThread:
    """Waits in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._rests = threading.Semaphore(0)  # it sleeps, or has ended
        self._result: Any = None
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()
        self._wait_until_it_rests()

    def _run(self, call: Callable[[], Any]) -> None:
        _local.waiter = self
        try:
            self._result = call()
        except TimeoutError:
            self._result = LEFT
        except Exception as error:
            self._result = type(error)
        self._has_ended = True
        self._rests.release()

    def sleep(self, woken: Callable[[], bool]) -> bool:
        """In the thread: False if it is told that it is late."""
        while not woken():
            self._rests.release()
            if self._told.get() == "you are late":
                return False
        return True

    def _tell(self, what: str) -> None:
        if not self._has_ended:
            self._told.put(what)
            self._wait_until_it_rests()

    def _wait_until_it_rests(self) -> None:
        assert self._rests.acquire(timeout=TIMEOUT), "it neither sleeps nor ends"
        if self._has_ended:
            self._thread.join(TIMEOUT)

    def look(self) -> None:
        self._tell("look")

    def ended(self) -> bool:
        return self._has_ended

    def leave(self) -> None:
        self._tell("you are late")

    def outcome(self) -> Any:
        return self._result


@contextmanager
def threads_that_are_told() -> Iterator[None]:
    """While this lasts an InThread sleeps as described; all other threads as ever."""

    def acquire(lock: threading.Lock, timeout: float, process: int) -> bool:
        waiter = getattr(_local, "waiter", None)
        if waiter is None or timeout == 0:
            return acquire_lock(lock, timeout, process)
        in_time: bool = waiter.sleep(lambda: lock.acquire(blocking=False))
        if not in_time and timeout < 0:  # it has no limit: that is not for it
            return acquire(lock, timeout, process)
        return in_time

    class Poll:
        def __init__(self) -> None:
            self._poll = select.poll()
            self.register = self._poll.register

        def poll(self, milliseconds: int) -> None:
            waiter = getattr(_local, "waiter", None)
            if waiter is None:
                self._poll.poll(milliseconds)
            elif not waiter.sleep(lambda: bool(self._poll.poll(0))):
                raise TimeoutError

    class Select:
        POLLIN = select.POLLIN
        poll = Poll

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_waiters, "acquire_lock", acquire)
        patch.setattr(event_fd, "select", Select)
        yield


class Crowd:
    """All who have come to wait for one object, by number."""

    def __init__(self) -> None:
        self._all: list[InTask | InThread] = []

    def __len__(self) -> int:
        return len(self._all)

    def come(
        self,
        face: str,
        in_task: Callable[[], Coroutine[Any, Any, Any]],
        in_thread: Callable[[], Any],
    ) -> None:
        """By the face "task" or "thread". A thread is waiting when this returns, if it has to."""
        self._all.append(InTask(in_task()) if face == "task" else InThread(in_thread))
        executor_turn()

    def leave(self, who: int) -> None:
        """A task is cancelled, a thread comes too late."""
        self._all[who].leave()

    def leave_during(
        self,
        who: int,
        in_task: Callable[[], Coroutine[Any, Any, Any]],
        in_thread: Callable[[], Any],
    ) -> None:
        """``who`` leaves when that has been done, and before it has noticed."""

        async def at_once() -> None:
            await in_task()
            self.leave(who)

        if self.is_task(who):
            block_on(at_once())
        else:
            in_thread()
            self.leave(who)

    def is_task(self, who: int) -> bool:
        return isinstance(self._all[who], InTask)

    def turn(self, expected: int, settle: Callable[[], None] = executor_turn) -> set[int]:
        """Let everybody look until so many have ended, and then again: who has."""
        again = 0
        for _ in range(30 + 3 * len(self._all)):
            settle()
            for waiter in self._all:
                waiter.look()
            again += len(self.ended()) == expected
            if again == 3:
                break
        return self.ended()

    def ended(self) -> set[int]:
        return {who for who, waiter in enumerate(self._all) if waiter.ended()}

    def outcome(self, who: int) -> Any:
        return self._all[who].outcome()


class Against:
    """An object and its model. A subclass says what its parts do."""

    # Names of what can be done. For those in ``acts`` there are ``do_NAME``, which does it to the
    # object, and ``model_NAME``; for those in ``steps`` NAME, which does both and may compare.
    acts: ClassVar[Sequence[str]] = ()
    steps: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        self.crowd = Crowd()
        self.line: list[int] = []
        self.ended: dict[int, Any] = {}
        # Of each of these groups one has ended so, and it is not said which.
        self.either: list[tuple[list[int], Any]] = []

    async def in_task(self, who: int) -> Any:
        """Wait in a task; what is returned is the outcome."""
        raise NotImplementedError

    def in_thread(self, who: int) -> Any:
        """The same in a thread."""
        raise NotImplementedError

    def comes(self, who: int) -> None:
        """The model of a wait that begins; he has been put at the end of the line."""
        raise NotImplementedError

    def goes(self, who: int) -> None:
        """The model of one that leaves, out of the line."""
        self.line.remove(who)
        self.ended[who] = LEFT

    def gives_back(self, who: int, act: str) -> None:
        """The model of one that leaves when that act has let him through, before he noticed."""
        self.ended[who] = LEFT

    def same(self) -> None:
        """Compare the object with the model, at rest."""
        raise NotImplementedError

    def finish(self) -> None:
        """What comes at the end, before those who still wait leave."""

    @classmethod
    def operations(cls) -> Any:
        """What hypothesis makes: a list of steps, each a method's name and arguments."""
        numbers = st.integers(0, 5)
        kinds = [
            st.tuples(st.just("come"), st.just("task")),
            st.tuples(st.just("come"), st.just("thread")),
            st.tuples(st.just("leave"), numbers),
            *(st.tuples(st.just(name)) for name in (*cls.acts, *cls.steps)),
            *(st.tuples(st.just("leave_during"), st.just(act), numbers) for act in cls.acts),
        ]
        return st.lists(st.one_of(kinds), max_size=40)

    def run(self, operations: list[tuple[Any, ...]]) -> None:
        with threads_that_are_told():
            try:
                for name, *arguments in operations:
                    if name in self.acts:
                        self.do(name)
                        self.model(name)
                    else:
                        getattr(self, name)(*arguments)
                    self.check()
                self.finish()
                while self.line:
                    self.leave(0)
                    self.check()
                assert self.crowd.ended() == set(range(len(self.crowd)))
            finally:
                self.clean_up()

    def do(self, act: str) -> None:
        getattr(self, "do_" + act)()

    async def do_in_task(self, act: str) -> None:
        """As ``do``, if it can do without waiting."""
        self.do(act)

    def model(self, act: str) -> None:
        getattr(self, "model_" + act)()

    def come(self, face: str) -> None:
        who = len(self.crowd)
        self.line.append(who)
        self.comes(who)
        self.crowd.come(face, lambda: self.in_task(who), lambda: self.in_thread(who))

    def leave(self, number: int) -> None:
        if self.line:
            who = self.line[number % len(self.line)]
            self.crowd.leave(who)
            self.goes(who)

    def leave_during(self, act: str, number: int) -> None:
        """One that waits leaves when that has been done, and before he has noticed."""
        if self.line:
            who = self.line[number % len(self.line)]
            self.crowd.leave_during(who, lambda: self.do_in_task(act), lambda: self.do(act))
            self.model(act)
            if who in self.line:
                self.goes(who)
            else:
                self.gives_back(who, act)

    def let_through(self, who: int, outcome: Any = None) -> None:
        """In the model."""
        self.line.remove(who)
        self.ended[who] = outcome

    def check(self) -> None:
        ended = self.crowd.turn(len(self.ended) + len(self.either), self.settle)
        for group, outcome in self.either:
            (one,) = ended & set(group) - set(self.ended)
            self.let_through(one, outcome)
        self.either = []
        assert {who: self.crowd.outcome(who) for who in ended} == self.ended
        self.same()

    settle = staticmethod(executor_turn)

    def clean_up(self) -> None:
        """If the test has failed: nobody is left for those that come after it."""
        for who in set(range(len(self.crowd))) - self.crowd.ended():
            self.crowd.leave(who)
