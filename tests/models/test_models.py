"""Each object beside a model of a few plain fields: who gets through, in what order, with what.

How the tasks and threads are moved that wait, see crowd.py.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.crowd import LEFT, Against
from tests.support.net_helpers import TIMEOUT, settle
from trale_py import (
    Barrier,
    ClosedResourceError,
    Condition,
    Event,
    EventFd,
    Guard,
    Mutex,
    Notify,
    OnceCell,
    WouldBlock,
)
from trale_py.channel import Closed, oneshot, watch

pytestmark = pytest.mark.slow

MAIN = -1  # the thread of the test, as one of those who have something
THROUGH = None


class AgainstEvent(Against):
    acts = ("set",)
    steps = ("now",)

    def __init__(self) -> None:
        super().__init__()
        self.event = Event()
        self.is_set = False

    async def in_task(self, who: int) -> None:
        await self.event.wait()

    def in_thread(self, who: int) -> None:
        self.event.wait_blocking(TIMEOUT)

    def comes(self, who: int) -> None:
        if self.is_set:
            self.let_through(who)

    def do_set(self) -> None:
        self.event.set()

    def model_set(self) -> None:
        self.is_set = True
        for who in list(self.line):
            self.let_through(who)

    def gives_back(self, who: int, act: str) -> None:
        """Nothing: it was let through."""

    def now(self) -> None:
        at_once(lambda: self.event.wait_blocking(0), None if self.is_set else TimeoutError)

    def same(self) -> None:
        assert self.event.is_set() is self.is_set
        assert len(self.event._waiters) == len(self.line)


class AgainstNotify(Against):
    acts = ("notify_one", "notify_waiters")
    steps = ("now",)

    def __init__(self) -> None:
        super().__init__()
        self.notify = Notify()
        self.count = 0

    async def in_task(self, who: int) -> None:
        await self.notify.wait()

    def in_thread(self, who: int) -> None:
        self.notify.wait_blocking(TIMEOUT)

    def comes(self, who: int) -> None:
        if self.count:
            self.count -= 1
            self.let_through(who)

    def do_notify_one(self) -> None:
        self.notify.notify_one()

    def model_notify_one(self) -> None:
        if self.line:
            self.let_through(self.line[0])
        else:
            self.count += 1

    def do_notify_waiters(self) -> None:
        self.notify.notify_waiters()

    def model_notify_waiters(self) -> None:
        for who in list(self.line):
            self.let_through(who)

    def gives_back(self, who: int, act: str) -> None:
        if act == "notify_one":
            super().gives_back(who, act)
            self.model_notify_one()

    def now(self) -> None:
        at_once(lambda: self.notify.wait_blocking(0), None if self.count else TimeoutError)
        self.count -= self.count > 0

    def same(self) -> None:
        assert self.notify._count == self.count
        assert len(self.notify._waiters) == len(self.line)


class AgainstMutex(Against):
    acts = ("release",)
    steps = ("try_lock", "now")

    def __init__(self) -> None:
        super().__init__()
        self.mutex: Mutex[int] = Mutex(0)
        self.guards: dict[int, Guard[int]] = {}
        self.holder: int | None = None
        self.times = 0  # it was locked

    async def in_task(self, who: int) -> None:
        self.lock(who, await self.mutex.lock())

    def in_thread(self, who: int) -> None:
        self.lock(who, self.mutex.lock_blocking(TIMEOUT))

    def lock(self, who: int, guard: Guard[int]) -> None:
        self.guards[who] = guard
        guard.value += 1

    def comes(self, who: int) -> None:
        if self.holder is None:
            self.next()

    def next(self) -> None:
        self.holder = self.line[0] if self.line else None
        if self.holder is not None:
            self.times += 1
            self.let_through(self.holder)

    def do_release(self) -> None:
        if self.holder is not None:
            self.guards.pop(self.holder).release()

    def model_release(self) -> None:
        if self.holder is not None:
            self.next()

    def gives_back(self, who: int, act: str) -> None:
        super().gives_back(who, act)
        self.times -= 1
        self.next()

    def try_lock(self) -> None:
        guard = self.mutex.try_lock()
        assert (guard is None) is (self.holder is not None)
        if guard is not None:
            self.locked_by_main(guard)

    def now(self) -> None:
        if self.holder is None:
            self.locked_by_main(self.mutex.lock_blocking(0))
        else:
            error = RuntimeError if self.holder == MAIN else TimeoutError
            at_once(lambda: self.mutex.lock_blocking(0), error)

    def locked_by_main(self, guard: Guard[int]) -> None:
        self.lock(MAIN, guard)
        self.holder = MAIN
        self.times += 1

    def same(self) -> None:
        assert self.mutex.locked() is (self.holder is not None)
        assert len(self.mutex._waiters) == len(self.line)
        assert list(self.guards) == ([] if self.holder is None else [self.holder])
        for guard in self.guards.values():
            assert guard.value == self.times

    def finish(self) -> None:
        while self.holder is not None:
            self.do_release()
            self.model_release()
            self.check()

    def clean_up(self) -> None:
        super().clean_up()
        for guard in self.guards.values():
            guard.release()


class AgainstCondition(Against):
    """``line`` is of those who wait to be notified.

    In ``mutex_line`` is who wants the mutex, which nobody holds for long but the thread of the
    test. It is of groups: of several that are let through in one step any may be the first.
    """

    acts = ("notify_one", "notify_two", "notify_all")
    steps = ("hold_or_let_go", "now", "outside")

    def __init__(self) -> None:
        super().__init__()
        self.condition: Condition[list[int]] = Condition(Mutex([]))
        self.held: Guard[list[int]] | None = None
        self.mutex_line: list[dict[int, str]] = []  # how each of them goes on when he has it
        self.back: list[set[int]] = []  # who has locked again, by and by

    async def in_task(self, who: int) -> str:
        async with self.condition as guard:
            try:
                await self.condition.wait()
            finally:
                guard.value.append(who)
        return "notified"

    def in_thread(self, who: int) -> str:
        with self.condition as guard:
            try:
                self.condition.wait_blocking(TIMEOUT)
            finally:
                guard.value.append(who)
        return "notified"

    def comes(self, who: int) -> None:
        if self.held:
            self.line.remove(who)
            self.mutex_line.append({who: "to wait"})

    def goes(self, who: int) -> None:
        self.line.remove(who)
        self.lock_again({who: LEFT})

    def lock_again(self, group: dict[int, str]) -> None:
        if self.held:
            self.mutex_line.append(group)
        elif group:
            self.ended.update(group)
            self.back.append(set(group))

    def hold_or_let_go(self) -> None:
        if self.held is None:
            self.held = self.condition.__enter__()
        else:
            self.condition.__exit__(None, None, None)
            self.held = None
            groups, self.mutex_line = self.mutex_line, []
            for group in groups:
                if "to wait" in group.values():
                    self.line += group
                else:
                    self.lock_again(group)

    def do(self, act: str) -> None:
        if self.held:
            super().do(act)
        else:
            with self.condition:
                super().do(act)

    async def do_in_task(self, act: str) -> None:
        async with self.condition:
            super().do(act)

    def do_notify_one(self) -> None:
        self.condition.notify()

    def do_notify_two(self) -> None:
        self.condition.notify(2)

    def do_notify_all(self) -> None:
        self.condition.notify_all()

    def model_notify_one(self) -> None:
        self.notified(1)

    def model_notify_two(self) -> None:
        self.notified(2)

    def model_notify_all(self) -> None:
        self.notified(len(self.line))

    def notified(self, n: int) -> None:
        self.lock_again(dict.fromkeys(self.line[:n], "notified"))
        del self.line[:n]

    def leave_during(self, act: str, number: int) -> None:
        if not self.held:
            groups, self.back = self.back, []
            super().leave_during(act, number)
            self.back = [*groups, set().union(*self.back)]  # any may lock before another

    def gives_back(self, who: int, act: str) -> None:
        if act == "notify_all":
            return
        super().gives_back(who, act)
        if self.line:
            following = self.line.pop(0)
            self.ended[following] = "notified"
            self.back[-1].add(following)

    def leave(self, number: int) -> None:
        """Also those who want the mutex try to."""
        group = self.mutex_line[number % len(self.mutex_line)] if self.mutex_line else {}
        if number % 2 == 0 or not group:
            super().leave(number)
            return
        who = next(iter(group))
        self.crowd.leave(who)
        if group[who] == "to wait" and self.crowd.is_task(who):
            self.mutex_line.remove(group)
            self.ended[who] = LEFT

    def now(self) -> None:
        if self.held and not self.mutex_line:
            at_once(lambda: self.condition.wait_blocking(0), TimeoutError)
            at_once(lambda: self.condition.wait_for_blocking(lambda: False, 0), TimeoutError)
            self.condition.wait_for_blocking(lambda: True, 0)

    def outside(self) -> None:
        if not self.held:
            for call in (
                self.condition.notify,
                self.condition.notify_all,
                self.condition.wait_blocking,
            ):
                at_once(call, RuntimeError)

    def same(self) -> None:
        mutex = self.condition._mutex
        assert mutex.locked() is (self.held is not None)
        assert len(self.condition._waiters) == len(self.line)
        assert len(mutex._waiters) == sum(map(len, self.mutex_line))
        back = iter(mutex._value or [])
        for group in self.back:
            assert {next(back) for _ in group} == group
        assert next(back, None) is None

    def finish(self) -> None:
        if self.held:
            self.hold_or_let_go()
            self.check()

    def clean_up(self) -> None:
        if self.held:
            self.condition.__exit__(None, None, None)
        super().clean_up()


class AgainstBarrier(Against):
    acts = ("complete",)
    steps = ("now",)

    def __init__(self, parties: int) -> None:
        super().__init__()
        self.barrier = Barrier(parties)
        self.parties = parties

    async def in_task(self, who: int) -> bool:
        return await self.barrier.wait()

    def in_thread(self, who: int) -> bool:
        return self.barrier.wait_blocking(TIMEOUT)

    def complete(self) -> bool:
        """Whether one more makes a round."""
        return len(self.line) + 1 == self.parties

    def comes(self, who: int) -> None:
        if len(self.line) == self.parties:
            self.let_through(who, True)
            self.all_others()

    def all_others(self) -> None:
        for other in list(self.line):
            self.let_through(other, False)

    async def do_in_task(self, act: str) -> None:
        if self.complete():
            assert await self.barrier.wait()

    def do_complete(self) -> None:
        if self.complete():
            assert self.barrier.wait_blocking(0)

    def model_complete(self) -> None:
        if self.complete():
            self.all_others()

    def gives_back(self, who: int, act: str) -> None:
        """Nothing: it has come, and counts."""

    def now(self) -> None:
        if not self.complete():
            at_once(lambda: self.barrier.wait_blocking(0), TimeoutError)

    def same(self) -> None:
        assert self.barrier.n_waiting == len(self.line)


class AgainstOnceCell(Against):
    """Who makes the value does so until ``made`` or ``fails``."""

    acts = ("made", "fails")
    steps = ("set", "now", "the_maker_leaves")

    def __init__(self) -> None:
        super().__init__()
        self.cell: OnceCell[str] = OnceCell()
        self.opened: dict[int, Event] = {}
        self.value: str | None = None
        self.maker: int | None = None
        self.fail = False

    async def in_task(self, who: int) -> str:
        async def make() -> str:
            self.opened[who] = Event()
            await self.opened[who].wait()
            return self.result(who)

        return await self.cell.get_or_init(make)

    def in_thread(self, who: int) -> str:
        def make() -> str:
            self.opened[who] = Event()
            self.opened[who].wait_blocking(TIMEOUT)
            return self.result(who)

        return self.cell.get_or_init_blocking(make, TIMEOUT)

    def result(self, who: int) -> str:
        if self.fail:
            raise ZeroDivisionError
        return f"by {who}"

    def comes(self, who: int) -> None:
        if self.value is not None:
            self.let_through(who, self.value)
        elif self.maker is None:
            self.line.remove(who)
            self.maker = who

    def end_making(self, fail: bool) -> None:
        self.fail = fail
        if self.maker is not None:
            self.opened.pop(self.maker).set()

    def do_made(self) -> None:
        self.end_making(fail=False)

    def do_fails(self) -> None:
        self.end_making(fail=True)

    def model_made(self) -> None:
        if self.maker is not None:
            self.value = self.ended[self.maker] = f"by {self.maker}"
            self.maker = None
            for who in list(self.line):
                self.let_through(who, self.value)

    def model_fails(self) -> None:
        self.maker_ends(ZeroDivisionError)

    def maker_ends(self, outcome: Any) -> None:
        if self.maker is not None:
            self.ended[self.maker] = outcome
            self.maker = self.line.pop(0) if self.line else None

    def leave_during(self, act: str, number: int) -> None:
        """It takes the maker a turn to be through, so the one who leaves has got nothing."""
        if self.line:
            who = self.line[number % len(self.line)]
            self.crowd.leave_during(who, lambda: self.do_in_task(act), lambda: self.do(act))
            self.goes(who)
            self.model(act)

    def the_maker_leaves(self) -> None:
        if self.maker is not None:
            self.crowd.leave(self.maker)
            self.opened.pop(self.maker)
            self.maker_ends(LEFT)

    def set(self) -> None:
        if self.maker is not None or self.value is not None:
            at_once(lambda: self.cell.set("main"), RuntimeError)
        else:
            self.cell.set("main")
            self.value = "main"

    def now(self) -> None:
        def get() -> None:
            assert self.cell.get_or_init_blocking(lambda: "main", 0) == self.value

        if self.maker is not None:
            at_once(get, TimeoutError)
        else:
            self.value = self.value or "main"
            get()

    def same(self) -> None:
        assert self.cell.get() == self.value
        assert self.cell.is_set() is (self.value is not None)
        assert self.cell._mutex.locked() is (self.maker is not None)
        assert len(self.cell._mutex._waiters) == len(self.line)
        assert list(self.opened) == ([] if self.maker is None else [self.maker])

    def finish(self) -> None:
        while self.maker is not None:
            self.the_maker_leaves()
            self.check()


class AgainstWatch(Against):
    """Two receivers; of those who wait by the same, one gets to see a new value."""

    acts = ("send", "close")
    steps = ("now", "subscribe")

    def __init__(self) -> None:
        super().__init__()
        self.tx, rx = watch(0)
        self.receivers = [rx, self.tx.subscribe()]
        self.seen = [0, 0]
        self.last = 0
        self.closed = False

    def receiver(self, who: int) -> int:
        return who % 2

    async def in_task(self, who: int) -> None:
        await self.receivers[who % 2].changed()

    def in_thread(self, who: int) -> None:
        self.receivers[who % 2].changed_blocking(TIMEOUT)

    def comes(self, who: int) -> None:
        if self.seen[who % 2] != self.last:
            self.seen[who % 2] = self.last
            self.let_through(who)
        elif self.closed:
            self.let_through(who, Closed)

    def do_send(self) -> None:
        if self.closed:
            value = self.last + 1
            with pytest.raises(Closed) as caught:
                self.tx.send(value)
            assert caught.value.value == value
        else:
            self.tx.send(self.last + 1)

    def model_send(self) -> None:
        self.last += not self.closed

    def do_close(self) -> None:
        self.tx.close()

    def model_close(self) -> None:
        self.closed = True
        for who in list(self.line):
            self.let_through(who, Closed)

    def gives_back(self, who: int, act: str) -> None:
        self.ended[who] = LEFT

    def check(self) -> None:
        for n in range(2):
            group = [who for who in self.line if who % 2 == n]
            if group and self.seen[n] != self.last:
                self.seen[n] = self.last
                self.either.append((group, THROUGH))
        super().check()

    def now(self) -> None:
        for n, rx in enumerate(self.receivers):
            unseen = self.seen[n] != self.last
            assert rx.has_changed() is unseen
            error = None if unseen else Closed if self.closed else TimeoutError
            at_once(partial(rx.changed_blocking, 0), error)
            self.seen[n] = self.last

    def subscribe(self) -> None:
        if not any(who % 2 for who in self.line):
            self.receivers[1] = self.tx.subscribe()
            self.seen[1] = self.last

    def same(self) -> None:
        assert self.tx.closed is self.closed
        assert len(self.tx._core.waiters) == len(self.line)
        for n, rx in enumerate(self.receivers):
            assert rx.borrow() == self.tx.borrow() == self.last
            assert rx.has_changed() is (self.seen[n] != self.last)


class AgainstOneshot(Against):
    acts = ("send", "close")
    steps = ("close_the_other", "drop", "try_recv", "now")

    def __init__(self) -> None:
        super().__init__()
        tx, self.rx = oneshot()
        self.tx: Any = tx
        self.values: list[str] = []
        self.closed = False
        self.given_back = False  # the value, in this step

    async def in_task(self, who: int) -> Any:
        return await self.rx.recv()

    def in_thread(self, who: int) -> Any:
        return self.rx.recv_blocking(TIMEOUT)

    def comes(self, who: int) -> None:
        if self.values:
            self.let_through(who, self.values.pop())
        elif self.closed:
            self.let_through(who, Closed)

    def do_send(self) -> None:
        if self.closed and self.tx is not None:
            with pytest.raises(Closed) as caught:
                self.tx.send("late")
            assert caught.value.value == "late"
        elif self.tx is not None:
            self.tx.send("value")

    def model_send(self) -> None:
        if not self.closed:
            self.values = ["value"]
            if self.line:
                self.let_through(self.line[0], self.values.pop())
            self.model_close()

    def do_close(self) -> None:
        self.rx.close()

    def model_close(self) -> None:
        self.closed = True
        for who in list(self.line):
            self.let_through(who, Closed)

    def gives_back(self, who: int, act: str) -> None:
        """The next gets it, unless he has seen before that it is closed; then it is still there."""
        if self.ended[who] == "value":
            self.given_back = True
        self.ended[who] = LEFT

    def check(self) -> None:
        if self.given_back:
            self.given_back = False
            self.values = ["value"]
            ended = self.crowd.turn(len(self.ended))
            for who in ended:
                if self.crowd.outcome(who) == "value" and self.ended[who] == Closed and self.values:
                    self.ended[who] = self.values.pop()
        super().check()

    def close_the_other(self) -> None:
        if self.tx is not None:
            self.tx.close()
            self.model_close()

    def drop(self) -> None:
        self.tx = None
        gc.collect()
        self.model_close()

    def try_recv(self) -> None:
        if self.values:
            assert self.rx.try_recv() == self.values.pop()
        else:
            at_once(self.rx.try_recv, Closed if self.closed else WouldBlock)

    def now(self) -> None:
        if self.values:
            assert self.rx.recv_blocking(0) == self.values.pop()
        else:
            at_once(lambda: self.rx.recv_blocking(0), Closed if self.closed else TimeoutError)

    def same(self) -> None:
        assert self.tx is None or self.tx.closed is self.closed
        assert len(self.rx._rx) == len(self.values)
        assert len(self.rx._rx._core.receivers) == len(self.line)


class AgainstEventFd(Against):
    """Who comes first is the kernel's choice."""

    acts = ("notify_one",)
    steps = ("now", "close")

    settle = staticmethod(settle)

    def __init__(self, initial: int) -> None:
        super().__init__()
        self.event = EventFd(initial)
        self.count = initial
        self.closed = False

    async def in_task(self, who: int) -> None:
        await self.event.wait()

    def in_thread(self, who: int) -> None:
        self.event.wait_blocking(TIMEOUT)

    def comes(self, who: int) -> None:
        if self.closed:
            self.let_through(who, ClosedResourceError)

    def do_notify_one(self) -> None:
        if self.closed:
            at_once(self.event.notify_one, ClosedResourceError)
        else:
            self.event.notify_one()

    def model_notify_one(self) -> None:
        self.count += not self.closed

    def check(self) -> None:
        while self.count and len(self.line) > len(self.either):
            self.count -= 1
            self.either.append((list(self.line), THROUGH))
        super().check()

    def now(self) -> None:
        error = ClosedResourceError if self.closed else None if self.count else TimeoutError
        at_once(lambda: self.event.wait_blocking(0), error)
        self.count -= self.count > 0
        if not self.closed:
            assert self.event.try_wait() is (self.count > 0)
            self.count -= self.count > 0

    def close(self) -> None:
        """It is not for those whose threads wait."""
        if all(self.crowd.is_task(who) for who in self.line):
            self.event.close()
            self.closed, self.count = True, 0
            for who in list(self.line):
                self.let_through(who, ClosedResourceError)

    def same(self) -> None:
        assert self.event.closed is self.closed
        # Of those who have gone nothing is left.
        assert len(self.event._waiting) <= sum(map(self.crowd.is_task, self.line))

    def finish(self) -> None:
        while self.count:
            assert self.event.try_wait()
            self.count -= 1
        assert self.closed or not self.event.try_wait()

    def clean_up(self) -> None:
        super().clean_up()
        self.event.close()


def at_once(call: Callable[[], Any], error: type[Exception] | None) -> None:
    """It raises that, or nothing."""
    if error is None:
        call()
    else:
        with pytest.raises(error):
            call()


SOME = settings(max_examples=300, deadline=None)


@given(AgainstEvent.operations())
@SOME
def test_event(operations: list[Any]) -> None:
    AgainstEvent().run(operations)


@given(AgainstNotify.operations())
@SOME
def test_notify(operations: list[Any]) -> None:
    AgainstNotify().run(operations)


@given(AgainstMutex.operations())
@SOME
def test_mutex(operations: list[Any]) -> None:
    AgainstMutex().run(operations)


@given(AgainstCondition.operations())
@SOME
def test_condition(operations: list[Any]) -> None:
    AgainstCondition().run(operations)


@given(st.integers(1, 4), AgainstBarrier.operations())
@SOME
def test_barrier(parties: int, operations: list[Any]) -> None:
    AgainstBarrier(parties).run(operations)


@given(AgainstOnceCell.operations())
@SOME
def test_once_cell(operations: list[Any]) -> None:
    AgainstOnceCell().run(operations)


@given(AgainstWatch.operations())
@SOME
def test_watch(operations: list[Any]) -> None:
    AgainstWatch().run(operations)


@given(AgainstOneshot.operations())
@SOME
def test_oneshot(operations: list[Any]) -> None:
    AgainstOneshot().run(operations)


@given(st.integers(0, 2), AgainstEventFd.operations())
@settings(max_examples=150, deadline=None)
def test_event_fd(initial: int, operations: list[Any]) -> None:
    AgainstEventFd(initial).run(operations)
