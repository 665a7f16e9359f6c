"""The timer heap against a model."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.python_engine import TimerEntry
from trale_py.base.durations import NEVER
from trale_py.core.timer_heap import TimerHeap


class Nobody:
    def wake(self) -> None:
        raise AssertionError("the heap wakes nobody")


def entry(deadline: int) -> TimerEntry:
    return TimerEntry(deadline, Nobody())


@given(st.lists(st.integers(0, NEVER)))
def test_comes_out_in_order_equal_deadlines_as_pushed(deadlines: list[int]) -> None:
    heap = TimerHeap()
    entries = [entry(deadline) for deadline in deadlines]
    for item in entries:
        heap.push(item)
    expected = sorted(entries, key=lambda item: item.deadline)  # sorted() is stable
    assert heap.pop_due(NEVER, len(entries) + 1) == expected
    assert len(heap) == 0


def test_the_limit_of_one_round() -> None:
    heap = TimerHeap()
    for n in range(10):
        heap.push(entry(n))
    assert [item.deadline for item in heap.pop_due(100, 4)] == [0, 1, 2, 3]
    assert [item.deadline for item in heap.pop_due(5, 4)] == [4, 5]
    assert heap.next_deadline() == 6


def test_E4_discarded_entries_are_swept() -> None:
    heap = TimerHeap()
    entries = [entry(n) for n in range(10_000)]
    for item in entries:
        heap.push(item)
    for item in entries[:9_000]:
        heap.discard(item)
    assert len(heap) == 1_000
    assert len(heap._heap) <= 2_000 + TimerHeap.SWEEP_FROM
    assert heap.next_deadline() == 9_000


def test_discard_twice_and_of_strangers() -> None:
    heap = TimerHeap()
    inside, outside = entry(1), entry(2)
    heap.push(inside)
    for _ in range(2):
        heap.discard(inside)
        heap.discard(outside)
    assert len(heap) == 0
    assert heap.next_deadline() is None


class SmallSweep(TimerHeap):
    SWEEP_FROM = 2


class HeapMachine(RuleBasedStateMachine):
    """Any order of pushes, discards and rounds; the model is a sorted list."""

    @initialize()
    def start(self) -> None:
        self.heap: TimerHeap = SmallSweep()
        self.live: list[TimerEntry] = []
        self.pushed: list[TimerEntry] = []

    @rule(deadline=st.integers(0, 100))
    def push(self, deadline: int) -> None:
        item = entry(deadline)
        self.heap.push(item)
        self.live.append(item)
        self.pushed.append(item)

    @rule(index=st.integers(0))
    def discard(self, index: int) -> None:
        if self.pushed:
            item = self.pushed[index % len(self.pushed)]
            self.heap.discard(item)
            if item in self.live:
                self.live.remove(item)

    @rule(now=st.integers(0, 100), limit=st.integers(1, 5))
    def pop(self, now: int, limit: int) -> None:
        due = sorted((e for e in self.live if e.deadline <= now), key=lambda e: e.deadline)[:limit]
        assert self.heap.pop_due(now, limit) == due
        for item in due:
            self.live.remove(item)

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "heap"):
            assert len(self.heap) == len(self.live)
            earliest = min((e.deadline for e in self.live), default=None)
            assert self.heap.next_deadline() == earliest
            assert all(e.in_heap for e in self.live)


HeapMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHeapAgainstModel = HeapMachine.TestCase
