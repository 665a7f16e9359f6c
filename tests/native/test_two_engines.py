"""The inner classes in Python and in C, side by side, through the same random operations.

What uses them sees only what they hand out: tasks in an order, calls that are
made, results of operations. So that is compared, step by step. Nothing runs in a thread of
its own here: a turn is one look at epoll and one batch, for either.

TRALE_EXAMPLES=5000 in the environment looks harder, and elsewhere each time.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.support import python_engine as PYTHON
from trale_py.core import engine
from trale_py.core.future import PENDING, Ready
from trale_py.core.reactor import Reactor
from trale_py.core.sweep import Sweep
from trale_py.net.socket_base import BaseSocket

native = engine.native
if native is None:
    pytest.skip("there is no native engine", allow_module_level=True)

EXAMPLES = os.environ.get("TRALE_EXAMPLES")
SETTINGS = settings(
    max_examples=int(EXAMPLES or 100),
    stateful_step_count=50,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

pytestmark = pytest.mark.slow

# The native executor looks at epoll no more often than this.
LOOK_NS = 60_000

few = st.integers(0, 5)
look = st.booleans()
KEYS = [object() for _ in range(6)]


class FakeTask:
    """What the run-queue wants of a task."""

    def __init__(self, side: Side, task_id: int) -> None:
        self._id = task_id
        self._cx = side.kind.Context(side.kind.Waker(side.run_queue, task_id), side.runtime)


class Recorder:
    """Somebody's own waker."""

    def __init__(self, woken: list[object], name: object) -> None:
        self._woken = woken
        self._name = name

    def wake(self) -> None:
        self._woken.append(self._name)


class NoSweep(Sweep):
    def plan(self) -> None:
        pass


class FakeReactor(Reactor):
    """The reactor without its thread, and without sweeps: the timers are the tests' own."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self._sweep = NoSweep(self)


class Side:
    """One of the two: a run-queue, a poller, and what is above them in a runtime."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.run_queue = kind.RunQueue()
        self.poller = kind.Poller(self.run_queue)
        self.runtime = SimpleNamespace(
            run_queue=self.run_queue,
            now_ns=time.monotonic_ns,
            reactor=FakeReactor(self.poller),
            call_on_executor=lambda call: call(),
            gone="",
        )
        self.tasks: list[FakeTask] = []
        self.called: list[object] = []

    def task(self) -> FakeTask:
        task = FakeTask(self, len(self.tasks) + 1)
        self.tasks.append(task)
        return task

    def call(self, name: object) -> None:
        self.run_queue.call(partial(self.called.append, name))

    def turn(self) -> list[int]:
        """Look at timers and epoll; the tasks that this, or anything before, has woken."""
        if self.kind is PYTHON:
            self.poller._wakeup_fd.notify()  # or it might sleep
            self.poller._turn()
        else:
            end = time.monotonic_ns() + LOOK_NS
            while time.monotonic_ns() < end:
                pass
        self.run_queue.call(int)  # or it might sleep
        woken = list(self.run_queue.next_batch())
        for task in woken:
            self.run_queue.put_to_wait(task)
        return [task._id for task in woken]


class Machine(RuleBasedStateMachine):
    """Both sides, and how to do the same to them."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [Side(PYTHON), Side(native)]

    def both(self, do: Callable[[Side], Any]) -> Any:
        """What comes of it, which has to be the same on either side."""
        python, native = (outcome(do, side) for side in self.sides)
        assert python == native
        return python

    def turn(self) -> None:
        self.both(Side.turn)
        self.both(lambda side: side.called)


def outcome(do: Callable[[Side], Any], side: Side) -> Any:
    try:
        result = do(side)
    except Exception as error:
        return type(error), str(error)
    return ("ready", result.value) if isinstance(result, Ready) else result


# -- the run-queue ---------------------------------------------------------------------------


class RunQueueMachine(Machine):
    """An executor that plays the polls of its tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[int, str] = {}  # new, waiting, woken, ended
        self.over = False

    @rule()
    def push(self) -> None:
        def push(side: Side) -> int:
            task = side.task()
            side.run_queue.push(task)
            return task._id

        self.state[self.both(push)] = "new"

    @rule(n=few)
    def call(self, n: int) -> None:
        self.both(lambda side: side.call(n))

    @rule(n=few)
    def call_that_pushes(self, n: int) -> None:
        self.both(lambda side: side.run_queue.call(partial(side.call, n)))

    @rule()
    def call_that_fails(self) -> None:
        self.both(lambda side: side.run_queue.call(partial(int, "x")))

    @rule(n=few, times=st.integers(1, 3))
    def wake(self, n: int, times: int) -> None:
        if n < len(self.state):
            for _ in range(times):
                self.both(lambda side: side.tasks[n]._cx.waker.wake())
            if self.state[n + 1] == "waiting":
                self.state[n + 1] = "woken"

    @precondition(lambda self: not self.over)
    @rule(
        polls=st.lists(
            st.tuples(st.sampled_from(["end", "wake", "push", "call", ""]), few), max_size=5
        ),
        stop=st.sampled_from([None] * 7 + [1]),
    )
    def batch(self, polls: list[tuple[str, int]], stop: int | None) -> None:
        for side in self.sides:
            side.run_queue.call(int)
        batches = [iter(side.run_queue.next_batch()) for side in self.sides]
        for count in itertools.count(1):
            python, native = (next(batch, None) for batch in batches)
            assert (python and python._id) == (native and native._id)
            if python is None:
                return
            for side in self.sides:
                side.run_queue.put_to_wait(side.tasks[python._id - 1])
            self.state[python._id] = "waiting"
            del native
            self.poll(python._id, *(polls.pop() if polls else ("", 0)))
            if count == stop:
                batches.clear()
                self.end()
                return

    def poll(self, task_id: int, what: str, n: int) -> None:
        if what == "end":
            self.both(lambda side: side.run_queue.remove(side.tasks[task_id - 1]))
            self.state[task_id] = "ended"
        elif what == "wake":
            self.wake(task_id - 1 if n == 0 else n, 1)
        elif what == "push":
            self.push()
        elif what == "call":
            self.call(n)

    def end(self) -> None:
        """The executor stops, in the midst of a batch, and gives up all tasks that it knows."""
        self.over = True
        for side in self.sides:
            for task in side.tasks:
                side.run_queue.remove(task)
        self.state = dict.fromkeys(self.state, "ended")

    @precondition(lambda self: self.over)
    @rule()
    def drain(self) -> None:
        """What was asked for is done all the same, though its order is another."""
        ended = [task_id for task_id, state in self.state.items() if state == "ended"]
        # The Python one may hand out once more what was given up already.
        self.both(lambda side: [t._id for t in side.run_queue.drain() if t._id not in ended])
        self.both(lambda side: sorted(map(str, side.called)))
        self.state = dict.fromkeys(self.state, "ended")

    @invariant()
    def same_calls(self) -> None:
        if not self.over:
            self.both(lambda side: side.called)

    @invariant()
    def same_states(self) -> None:
        if self.over:
            return
        for task_id, state in self.state.items():
            if state != "woken":  # then the Python one does not know yet
                assert self.both(partial(self.is_waiting, task_id)) is (state == "waiting")
        python, native = ({t._id for t in side.run_queue.live()} for side in self.sides)
        assert native == {task_id for task_id, state in self.state.items() if state != "ended"}
        assert python <= native

    def is_waiting(self, task_id: int, side: Side) -> bool:
        return side.run_queue.is_waiting(side.tasks[task_id - 1])

    def teardown(self) -> None:
        for side in self.sides:
            for task in side.tasks:
                side.run_queue.remove(task)
            side.run_queue.drain()


# -- timers and sources ------------------------------------------------------------------------


class PollerMachine(Machine):
    TASKS = 3

    def __init__(self) -> None:
        super().__init__()
        for side in self.sides:
            side.poller.open()
            for _ in range(self.TASKS):
                side.run_queue.push(side.task())
        self.turn()

    def wakeable(self, side: Side, n: int) -> Any:
        """A task's waker, or one of somebody's own."""
        return side.tasks[n]._cx.waker if n < self.TASKS else Recorder(side.called, f"woken {n}")

    def teardown(self) -> None:
        for side in self.sides:
            for source in list(side.poller.sources.values()):
                side.poller.unwatch(source)
            side.poller.close()
            for task in side.tasks:
                side.run_queue.remove(task)
            side.run_queue.drain()


class TimerMachine(PollerMachine):
    """Deadlines that are past, in some order, or an hour away."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.monotonic_ns()
        self.entries: list[list[Any]] = []

    @rule(past=st.integers(0, 9), n=few)
    def add(self, past: int, n: int) -> None:
        self._add(self.now - past, n)

    @rule(later=st.integers(0, 9), n=few)
    def add_later(self, later: int, n: int) -> None:
        self._add(self.now + 3600 * 10**9 + later, n)

    def _add(self, deadline: int, n: int) -> None:
        self.entries.append(
            [side.poller.add_timer(deadline, self.wakeable(side, n)) for side in self.sides]
        )

    @rule(n=st.integers(0, 20))
    def cancel(self, n: int) -> None:
        if n < len(self.entries):
            for side, entry in zip(self.sides, self.entries[n], strict=True):
                side.poller.cancel_timer(entry)

    @rule()
    def fire(self) -> None:
        self.turn()
        self.both(lambda side: side.poller.timers)
        for ours, theirs in self.entries:
            assert ours.deadline == theirs.deadline
            assert (ours.waker is None) == (theirs.waker is None)


class SourceMachine(PollerMachine):
    """Descriptors of socket pairs, that others duplicate, close and use anew."""

    def __init__(self) -> None:
        super().__init__()
        self.devnull = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.gone: set[int] = set()
        for side in self.sides:
            side.pairs = [socket.socketpair() for _ in range(2)]
            side.dups = {}
            side.sources = {}
            for sock in itertools.chain.from_iterable(side.pairs):
                sock.setblocking(False)

    which = st.integers(0, 1)
    size = st.sampled_from([1, 100, 70_000])

    def attach(self, n: int, side: Side) -> Any:
        source = side.runtime.reactor._attach(side.pairs[n][0].fileno())
        side.sources[n] = source
        return source.users, source.pollable

    def watched(self, side: Side, n: int) -> Any:
        source = side.sources.get(n)
        fd = side.pairs[n][0].fileno()
        return source if source is not None and side.poller.sources.get(fd) is source else None

    @rule(n=which, what=st.sampled_from(["attach", "rearm", "release", "unwatch"]))
    def change(self, n: int, what: str) -> None:
        def change(side: Side) -> Any:
            if what == "attach":
                return self.attach(n, side)
            source = self.watched(side, n)
            if source is None:
                return None
            if what == "release":
                return side.runtime.reactor._release(source)
            return getattr(side.poller, what)(source)

        self.both(change)

    @rule(n=which, waker=few, read=st.booleans(), write=st.booleans(), look=st.booleans())
    def add(self, n: int, waker: int, read: bool, write: bool, look: bool) -> None:
        def add(side: Side) -> None:
            if self.watched(side, n) is None:
                self.attach(n, side)
            if look:  # what is ready already is told to nobody
                side.turn()
            side.sources[n].discard(KEYS[waker])  # a key is used once at a time
            side.sources[n].add(KEYS[waker], self.wakeable(side, waker), read, write)

        self.both(add)

    @rule(n=which, waker=few)
    def discard(self, n: int, waker: int) -> None:
        def discard(side: Side) -> None:
            if n in side.sources:
                side.sources[n].discard(KEYS[waker])

        self.both(discard)

    @rule(n=which, size=size, end=st.integers(0, 1))
    def send(self, n: int, size: int, end: int) -> None:
        self.both(lambda side: self.other_end(side, n, end).send(bytes(size)))

    @rule(n=which, size=size, end=st.integers(0, 1))
    def receive(self, n: int, size: int, end: int) -> None:
        self.both(lambda side: self.other_end(side, n, end).recv(size))

    @rule(n=which, only_half=st.booleans())
    def peer_ends(self, n: int, only_half: bool) -> None:
        def end(side: Side) -> None:
            if only_half:
                side.pairs[n][1].shutdown(socket.SHUT_WR)
            else:
                side.pairs[n][1].close()

        self.both(end)

    def other_end(self, side: Side, n: int, end: int) -> socket.socket:
        return side.pairs[n][1 if n in self.gone else end]

    @rule(n=which)
    def close_behind_our_back(self, n: int) -> None:
        """The number means /dev/null from now on. The socket lives on in a duplicate."""
        if n not in self.gone:
            self.gone.add(n)
            for side in self.sides:
                number = side.pairs[n][0].fileno()
                side.dups[n] = os.dup(number)
                os.dup2(self.devnull, number)

    @rule(n=which)
    def come_back(self, n: int) -> None:
        """The number means the same file again: still registered, or not."""
        if n in self.gone:
            self.gone.remove(n)
            for side in self.sides:
                os.dup2(side.dups[n], side.pairs[n][0].fileno())
                os.close(side.dups.pop(n))

    @rule(n=which)
    def use_anew(self, n: int) -> None:
        """The number means another socket from now on, and the old one is gone."""
        if n not in self.gone:
            for side in self.sides:
                old, peer = side.pairs[n]
                peer.close()
                ours, peer = socket.socketpair()
                peer.setblocking(False)
                ours.setblocking(False)
                os.dup2(ours.fileno(), old.fileno())
                ours.close()
                side.pairs[n] = old, peer

    @rule()
    def look(self) -> None:
        self.turn()

    def teardown(self) -> None:
        super().teardown()
        os.close(self.devnull)
        for side in self.sides:
            for fd in side.dups.values():
                os.close(fd)
            for sock in itertools.chain.from_iterable(side.pairs):
                sock.close()


# -- operations --------------------------------------------------------------------------------


class Owner(BaseSocket):
    """A socket with an Io of either kind."""

    _KIND = socket.SOCK_STREAM

    def __init__(self, side: Side, sock: socket.socket) -> None:
        self._sock = sock
        self._io = side.kind.Io(sock.fileno())
        self._runtime = side.runtime  # type: ignore[assignment]

    def __repr__(self) -> str:  # stands in messages, and is the same on both sides
        return "<Owner>"


class IoMachine(PollerMachine):
    """One socket, its operations polled by hand, and a peer."""

    size = st.sampled_from([1, 10, 1000, 16_384, 40_000, 65_536])
    which = st.integers(0, 3)  # counted from the newest
    task = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        for side in self.sides:
            ours, side.peer = socket.socketpair()
            ours.setblocking(False)
            side.peer.setblocking(False)
            for sock in (ours, side.peer):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 60_000)
            side.owner = Owner(side, ours)
            side.io = side.owner._io
            side.operations = []

    @initialize(started=st.booleans())
    def start(self, started: bool) -> None:
        if started:
            self.both(lambda side: side.owner._attach(side.runtime).users)

    @rule(
        kind=st.sampled_from(["recv", "recv", "recv_into", "fill"]), size=size, task=task, look=look
    )
    def read(self, kind: str, size: int, task: int, look: bool) -> None:
        def read(side: Side) -> Any:
            if kind != "recv_into":
                return getattr(side.io, kind)(side.owner, size)
            side.into = memoryview(bytearray(size))
            return side.io.recv_into(side.owner, side.into)

        self.begin(read, task, look)

    @rule(
        kind=st.sampled_from(["send", "send_all"]),
        size=size | st.sampled_from([0, 200_000]),
        task=task,
        look=look,
    )
    def write(self, kind: str, size: int, task: int, look: bool) -> None:
        self.begin(lambda side: getattr(side.io, kind)(side.owner, pattern(size)), task, look)

    @rule(size=size, writing=st.booleans(), task=task, look=look)
    def call(self, size: int, writing: bool, task: int, look: bool) -> None:
        def call(side: Side) -> Any:
            sock = side.owner._sock
            do = (lambda: sock.send(pattern(size))) if writing else (lambda: sock.recv(size))
            return side.io.call(side.owner, do, writing, None)

        self.begin(call, task, look)

    def begin(self, make: Callable[[Side], Any], task: int, look: bool) -> None:
        for side in self.sides:
            side.operations.append(make(side))
        self.made += 1
        if look:
            self.turn()
        self.poll(0, task)

    @rule(n=which, task=task)
    def poll(self, n: int, task: int) -> None:
        if n < self.made:
            self.both(lambda side: side.operations[-1 - n].poll(side.tasks[task]._cx))

    @rule(n=which, forget=st.booleans())
    def drop(self, n: int, forget: bool) -> None:
        if n < self.made:
            self.both(lambda side: side.operations[-1 - n].drop())
            if forget:
                self.both(lambda side: side.operations.pop(-1 - n) and None)
                self.made -= 1

    @rule(size=size, look=look)
    def peer_sends(self, size: int, look: bool) -> None:
        self.both(lambda side: side.peer.send(pattern(size)))
        if look:
            self.turn()

    @rule(size=size | st.just(1_000_000), look=look)
    def peer_receives(self, size: int, look: bool) -> None:
        self.both(lambda side: side.peer.recv(size))
        if look:
            self.turn()

    @rule(what=st.sampled_from(["claim", "release"]), writing=st.booleans())
    def claim(self, what: str, writing: bool) -> None:
        self.both(lambda side: getattr(side.io, what)(writing))

    @rule(size=size, cut=st.booleans(), task=task)
    def write_against_a_slow_peer(self, size: int, cut: bool, task: int) -> None:
        """More than there is room for; the peer makes room, or the task is cut off half-way."""
        self.begin(lambda side: side.io.send_all(side.owner, pattern(200_000)), task, True)
        if cut:
            self.drop(0, False)
        for _ in range(0 if cut else 4):
            self.peer_receives(65_536, True)
            self.poll(0, task)
        self.begin(lambda side: side.io.send(side.owner, pattern(size)), task, False)

    @rule(sizes=st.lists(size, min_size=1, max_size=3), ends=st.booleans(), task=task)
    def read_in_pieces(self, sizes: list[int], ends: bool, task: int) -> None:
        """The reader waits first, and then takes more, or less, than comes at a time."""
        self.begin(lambda side: side.io.recv(side.owner, 40_000), task, True)
        for size in sizes:
            self.peer_sends(size, True)
            self.poll(0, task)
        if ends and len(sizes) == 3:
            self.peer_ends("half")

    @rule(size=size, put=st.booleans())
    def use_the_buffer(self, size: int, put: bool) -> None:
        if put:
            self.both(lambda side: side.io.buffer.extend(pattern(size)))
        else:
            self.both(lambda side: side.io.take(size))

    @rule(how=st.sampled_from(["half", "all", *[""] * 6]))
    def peer_ends(self, how: str) -> None:
        if how == "half":
            self.both(lambda side: side.peer.shutdown(socket.SHUT_WR))
        elif how == "all":
            self.both(lambda side: side.peer.close())

    @rule(how=st.sampled_from(["at once", "later", *[""] * 8]))
    def close(self, how: str) -> None:
        def close(side: Side) -> None:
            if how == "at once":
                side.owner.close()
            elif not side.io.closed:  # by another thread, whose request is in the queue
                side.io.closed = True
                side.run_queue.call(side.owner._close)

        if how:
            self.both(close)

    @rule(
        raised=st.sampled_from([OSError(5, "x"), ValueError("x"), BlockingIOError(11, "x")]),
        really=st.sampled_from([True, *[False] * 8]),
    )
    def close_in_a_call(self, raised: Exception, really: bool) -> None:
        def make(side: Side) -> Any:
            def do() -> None:
                side.owner.close()
                raise raised

            return side.io.call(side.owner, do, False, None)

        if really:
            self.begin(make, 0, False)

    @rule()
    def look(self) -> None:
        self.turn()

    @invariant()
    def same_buffers(self) -> None:
        self.both(lambda side: bytes(side.io.buffer))
        self.both(lambda side: bytes(getattr(side, "into", b"")))

    def teardown(self) -> None:
        for side in self.sides:
            side.operations.clear()
            side.owner.close()
            side.owner._close()
            side.peer.close()
        super().teardown()


@cache
def pattern(size: int) -> bytes:
    """Bytes of which a part that is missing, or comes twice, shows."""
    return bytes(itertools.islice(itertools.cycle(range(251)), size))


TestRunQueue = RunQueueMachine.TestCase
TestTimers = TimerMachine.TestCase
TestSources = SourceMachine.TestCase
TestIo = IoMachine.TestCase
TestRunQueue.settings = TestTimers.settings = TestSources.settings = TestIo.settings = SETTINGS


# -- permits, locks, queues --------------------------------------------------------------------


def woken(side: Side) -> list[int]:
    side.run_queue.call(int)  # or it might sleep
    tasks = list(side.run_queue.next_batch())
    for task in tasks:
        side.run_queue.put_to_wait(task)
    return [task._id for task in tasks]


def somebody_waits(self: Any) -> bool:
    return bool(self.sides[0].waits)


class Stores(Machine):
    """Waits of tasks and threads, polled at any time, granted something, and gone away."""

    @initialize(n=st.integers(0, 2), one=st.sampled_from(["queue", "permits", "lock"]))
    def begin(self, n: int, one: str) -> None:
        self.one = one  # that is used this time
        self.values = itertools.count()
        for side in self.sides:
            side.permits = side.kind.SemaphoreCore(n)
            side.lock = side.kind.LockCore(side.kind.GuardCore)
            side.queue = side.kind.QueueCore(n)
            side.waits, side.holds = [], []
            for _ in range(5):
                side.run_queue.push(side.task())
            woken(side)

    @rule(which=st.booleans(), task=st.integers(0, 4))
    def wait(self, which: bool, task: int) -> None:
        send = "send" if which else "recv"
        what = {"permits": "acquire", "lock": "lock", "queue": send}[self.one]
        args = [next(self.values)] if what == "send" else []
        for side in self.sides:
            wait = getattr(getattr(side, self.one), what)(*args)
            parked = threading.Lock()
            parked.acquire()
            side.waits.append((what, wait, task, parked))
        self.poll(-1)

    @precondition(somebody_waits)
    @rule(n=few)
    def poll(self, n: int) -> None:
        self.look(n, lambda side, _, wait, task, __: wait.poll(side.tasks[task]._cx))

    @precondition(somebody_waits)
    @rule(n=few)
    def look_from_a_thread(self, n: int) -> None:
        def look(side: Side, what: str, wait: Any, task: int, parked: threading.Lock) -> Any:
            if what == "lock":  # a task's: a thread would have to say who it is
                return wait.poll(side.tasks[task]._cx)
            return Ready(wait._result) if wait._look_or_park(parked) else PENDING

        self.look(n, look)

    def look(self, n: int, how: Callable[..., Any]) -> None:
        n %= len(self.sides[0].waits)

        def do(side: Side) -> Any:
            try:
                result = how(side, *side.waits[n])
            except Exception:
                side.waits[n][1].drop()  # as an await does that ends so
                raise
            if isinstance(result, Ready) and isinstance(result.value, side.kind.GuardCore):
                side.holds.append(result.value)
                return "locked"
            return result

        if self.both(do) is not PENDING:
            for side in self.sides:
                del side.waits[n]

    @precondition(somebody_waits)
    @rule(n=few)
    def drop(self, n: int) -> None:
        for side in self.sides:
            side.waits.pop(n % len(side.waits))[1].drop()

    @rule(which=st.booleans())
    def step(self, which: bool) -> None:
        value = next(self.values)

        def step(side: Side) -> Any:
            if self.one == "permits":
                return side.permits.release() if which else side.permits.try_acquire()
            if self.one == "queue":
                return side.queue.try_send(value) if which else side.queue.try_recv()
            if which:
                return [hold._unlock() for hold in side.holds]
            side.holds.append(side.kind.GuardCore(side.lock))
            return side.holds[-1]._try_lock("me")

        self.both(step)

    @precondition(lambda self: self.one == "queue")
    @rule(last=st.booleans(), really=st.integers(0, 50))
    def close(self, last: bool, really: int) -> None:
        if really == 33:  # seldom: not much happens after it
            self.both(lambda side: side.queue.send_last(0) if last else side.queue.close())

    @invariant()
    def alike(self) -> None:
        if not hasattr(self.sides[0], "waits"):
            return

        def state(side: Side) -> Any:
            queue, lines = side.queue, [side.permits._waiters, side.lock._waiters]
            return (
                [len(line) for line in [*lines, queue.senders, queue.receivers]],
                (side.permits._count, list(queue.buffer), queue.slots, queue.closed),
                (side.lock._owner is None, [hold._held for hold in side.holds]),
                [parked.locked() for _, _, _, parked in side.waits],
            )

        self.both(state)
        self.both(woken)

    def teardown(self) -> None:
        for side in self.sides:
            for _, wait, _, _ in getattr(side, "waits", []):
                wait.drop()
            for hold in getattr(side, "holds", []):
                hold._unlock()


Stores.TestCase.settings = settings(SETTINGS, max_examples=int(EXAMPLES or 200))
TestStores = Stores.TestCase
