"""A random walk over tasks, cancellations, events and groups, beside a model of what must come.

The model knows of every task how it has to end: with a value, or cancelled with the first
reason that it was given. Where nature decides (a sleep that ends at about the same time as it
is cancelled), it allows both, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule

from tests.conftest import assert_tables_empty
from tests.support.net_helpers import TIMEOUT, executor_turn
from trale_py import (
    Cancelled,
    CancelScope,
    Event,
    JoinHandle,
    TaskCancelled,
    TaskGroup,
    block_on,
    move_on_after,
    sleep,
    spawn,
)
from trale_py.core import current

pytestmark = pytest.mark.slow


@dataclass
class Expected:
    """A task and its model."""

    handle: JoinHandle[Any]
    value: str
    gate: EventModel | None = None  # what it waits for; None: it ends by itself
    swallows: int = 0  # how many cancellations it turns into its value
    own: list[str] = field(default_factory=list)  # the reasons it was cancelled with
    group: GroupModel | None = None
    doomed: bool = False  # cancelled while it waited for what had not come: nothing else ends it
    joined: Any = None

    def may_end(self) -> bool:
        return self.gate is None or self.gate.opened or bool(self.reasons())

    def reasons(self) -> list[str]:
        """Why it is cancelled: the first of its own; only if there is none, its group's."""
        if self.own:
            return self.own[:1]
        return self.group.reasons[:1] if self.group is not None else []

    def outcomes(self) -> set[tuple[str, object]]:
        value: tuple[str, object] = ("value", self.value)
        if self.swallows:
            return {value}
        cancelled = {("cancelled", reason) for reason in self.reasons()}
        if self.group is not None:  # cancelled by both: it may have ended by either
            cancelled |= {("cancelled", reason) for reason in self.group.reasons[:1]}
        return cancelled if self.doomed else {value, *cancelled}

    def is_cancelled(self) -> None:
        """Its own reasons or its group's have got one more."""
        if self.gate is not None and not self.gate.opened:
            self.doomed = True


@dataclass
class EventModel:
    event: Event = field(default_factory=Event)
    opened: bool = False


@dataclass
class GroupModel:
    group: TaskGroup = field(default_factory=TaskGroup)
    opened: Event = field(default_factory=Event)
    end: Event = field(default_factory=Event)
    owner: JoinHandle[str] | None = None
    reasons: list[str] = field(default_factory=list)
    children: list[Expected] = field(default_factory=list)

    async def run(self) -> str:
        async with self.group:
            self.opened.set()
            await self.end.wait()
        return "left"


async def sleeper(seconds: float, value: str) -> str:
    await sleep(seconds)
    return value


async def waiter(event: Event, value: str) -> str:
    await event.wait()
    return value


async def nested(event: Event, value: str, depth: int) -> str:
    if depth:
        with CancelScope():
            return await nested(event, value, depth - 1)
    with move_on_after(0) as cut_off:
        await sleep(math.inf)
    assert cut_off.cancelled_caught
    await event.wait()
    return value


async def swallower(event: Event, value: str) -> str:
    try:
        await event.wait()
    except Cancelled:
        with CancelScope(shield=True):
            await sleep(0)
    return value


class Tasks(RuleBasedStateMachine):
    tasks = Bundle("tasks")
    events = Bundle("events")
    groups = Bundle("groups")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Expected] = []
        self.all_events: list[EventModel] = []
        self.all_groups: list[GroupModel] = []
        self.count = 0

    # -- rules ----------------------------------------------------------------------------------

    @rule(target=events)
    def make_event(self) -> EventModel:
        self.all_events.append(EventModel())
        return self.all_events[-1]

    @rule(event=events)
    def open_event(self, event: EventModel) -> None:
        event.event.set()
        event.opened = True

    @rule(target=tasks, seconds=st.sampled_from([0, 0.0001, 0.002]))
    def spawn_sleeper(self, seconds: float) -> Expected:
        value = self.next_value()
        return self.add(Expected(spawn(sleeper(seconds, value)), value))

    @rule(
        target=tasks,
        event=events,
        kind=st.sampled_from([waiter, swallower, "nested"]),
        depth=st.integers(0, 5),
    )
    def spawn_waiter(self, event: EventModel, kind: Any, depth: int) -> Expected:
        value = self.next_value()
        coro, swallows = self.coroutine(kind, event, value, depth)
        expected = Expected(spawn(coro), value, event, swallows)
        if swallows:
            executor_turn()  # it has begun: a cancellation before that could not be swallowed
        return self.add(expected)

    @rule(task=tasks, reason=st.sampled_from("abc"), twice=st.booleans())
    def cancel(self, task: Expected, reason: str, twice: bool) -> None:
        was_done = task.handle.done()
        if was_done:
            assert not task.handle.cancel(reason)
            return
        if task.handle.cancel(reason):
            task.own.append(reason)
            if twice and task.handle.cancel(reason + " again"):
                task.own.append(reason + " again")
            task.is_cancelled()

    @rule(task=tasks)
    def join(self, task: Expected) -> None:
        if task.may_end():
            self.check(task)
        else:
            executor_turn()
            assert not task.handle.done()

    @rule(target=groups)
    def open_group(self) -> GroupModel:
        group = GroupModel()
        group.owner = spawn(group.run())
        block_on(group.opened.wait())
        self.all_groups.append(group)
        return group

    @rule(
        target=tasks,
        group=groups,
        event=events,
        kind=st.sampled_from([waiter, swallower, "nested"]),
        depth=st.integers(0, 3),
    )
    def spawn_in_group(self, group: GroupModel, event: EventModel, kind: Any, depth: int) -> Any:
        if group.reasons:
            return multiple()  # it may be over at any moment
        value = self.next_value()
        coro, swallows = self.coroutine(kind, event, value, depth)
        expected = Expected(group.group.spawn(coro), value, event, swallows, group=group)
        executor_turn()
        group.children.append(expected)
        return self.add(expected)

    @rule(group=groups, reason=st.sampled_from("xy"))
    def cancel_group(self, group: GroupModel, reason: str) -> None:
        if group.owner is not None and not group.owner.done():
            group.group.cancel_scope.cancel(reason)
            group.reasons.append(reason)
            for child in group.children:
                child.is_cancelled()

    @rule(group=consumes(groups))
    def close_group(self, group: GroupModel) -> None:
        """The body ends; the group with it, if all children may. Else it waits for them."""
        group.end.set()
        assert group.owner is not None
        if all(child.may_end() for child in group.children):
            assert group.owner.join(TIMEOUT) == "left"
            assert all(child.handle.done() for child in group.children)
        else:
            executor_turn()
            executor_turn()
            assert not group.owner.done()

    @rule(seconds=st.sampled_from([0, 0.0005, 0.003]))
    def time_passes(self, seconds: float) -> None:
        block_on(sleep(seconds))

    # -- the model ------------------------------------------------------------------------------

    def next_value(self) -> str:
        self.count += 1
        return f"value {self.count}"

    def add(self, expected: Expected) -> Expected:
        self.all.append(expected)
        return expected

    def coroutine(
        self, kind: Any, event: EventModel, value: str, depth: int
    ) -> tuple[Coroutine[Any, Any, str], int]:
        if kind == "nested":
            return nested(event.event, value, depth), 0
        return kind(event.event, value), int(kind is swallower)

    def check(self, task: Expected) -> None:
        outcome: tuple[str, object]
        try:
            outcome = ("value", task.handle.join(TIMEOUT))
        except TaskCancelled as error:
            outcome = ("cancelled", error.reason)
        assert outcome in task.outcomes()
        assert task.handle.cancelled() is (outcome[0] == "cancelled")
        assert task.joined in (None, outcome)  # joined again, it says the same
        task.joined = outcome

    def teardown(self) -> None:
        for event in self.all_events:
            event.event.set()
            event.opened = True
        for task in self.all:
            self.check(task)
        for group in self.all_groups:
            group.end.set()
            assert group.owner is not None
            assert group.owner.join(TIMEOUT) == "left"
        assert_tables_empty(current.default_runtime())


TestTasks = Tasks.TestCase
TestTasks.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
