"""StopToken: asked once, heard by all, also by those that come later and by children."""

from __future__ import annotations

import gc
import os
import signal
import threading
from functools import partial
from typing import Any

import pytest

from tests.support.interleave import everywhere
from tests.support.net_helpers import TIMEOUT, executor_turn, parked
from trale_py import StopToken, WouldDeadlock, block_on, spawn
from trale_py.sync import stop_token


def test_stop_is_heard_by_tasks_and_threads_and_by_those_that_come_later() -> None:
    token = StopToken()
    task = parked(token.wait())
    heard = threading.Event()
    thread = threading.Thread(target=lambda: (token.wait_blocking(TIMEOUT), heard.set()))
    thread.start()
    assert (token.stop_requested, token.reason) == (False, None)
    token.stop("enough")
    token.stop("again")
    task.join(TIMEOUT)
    assert heard.wait(TIMEOUT)
    thread.join(TIMEOUT)
    block_on(token.wait())
    token.wait_blocking()
    assert (token.stop_requested, token.reason) == (True, "enough")
    assert repr(token) == "<StopToken stopped: 'enough'>"


def test_a_parent_stops_its_children_and_not_the_other_way_round() -> None:
    parent = StopToken()
    child = parent.child()
    grandchild, other = child.child(), parent.child()
    child.stop("alone")
    assert grandchild.reason == "alone"
    assert not parent.stop_requested
    assert not other.stop_requested
    parent.stop("all")
    assert (other.reason, child.reason) == ("all", "alone")
    assert parent.child().reason == "all"


def test_a_child_without_a_name_is_still_stopped_and_a_dropped_one_is_forgotten() -> None:
    parent = StopToken()
    waiting = parked(parent.child().child().wait())
    gc.collect()
    assert len(parent._state.children) == 1
    parent.stop()
    waiting.join(TIMEOUT)
    del waiting
    gc.collect()
    executor_turn()
    gc.collect()
    assert len(parent._state.children) == 0


def test_a_wait_in_a_task_blocks_nothing() -> None:
    token = StopToken()

    async def wrong() -> None:
        with pytest.raises(WouldDeadlock):
            token.wait_blocking()

    block_on(wrong())
    assert token.statistics().tasks_waiting == 0


@pytest.mark.parametrize("where", ["script", "task"])
def test_a_signal_sets_it_off_and_the_second_one_does_what_it_did(where: str) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        token = StopToken()

        async def in_task() -> None:
            with token.on_signal(signal.SIGUSR1):
                os.kill(os.getpid(), signal.SIGUSR1)
                await token.wait()

        if where == "task":
            spawn(in_task()).join(TIMEOUT)
        else:
            with token.on_signal(signal.SIGUSR1, signal.SIGUSR2):
                os.kill(os.getpid(), signal.SIGUSR1)
                token.wait_blocking(TIMEOUT)
                assert heard == []
                os.kill(os.getpid(), signal.SIGUSR1)
                assert heard == [signal.SIGUSR1]
        assert token.reason is signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_leaving_the_block_without_a_signal_restores_the_handler() -> None:
    before: Any = signal.getsignal(signal.SIGUSR1)
    token = StopToken()
    with token.on_signal(signal.SIGUSR1):
        pass
    executor_turn()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert not token.stop_requested


def test_A11_stop_in_a_signal_handler_in_the_midst_of_a_stop() -> None:
    before = signal.getsignal(signal.SIGALRM)
    tokens: list[StopToken] = []
    signal.signal(signal.SIGALRM, lambda *_: tokens and tokens[-1].stop("handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0003)
        for _ in range(300):
            tokens.append(StopToken())
            child = tokens[-1].child()
            waiting = spawn(child.wait())
            tokens[-1].stop("script")
            waiting.join(TIMEOUT)
            assert child.reason in ("handler", "script")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_R73_a_stop_and_the_making_of_a_child_that_meet() -> None:
    def attempt(at: Any, child_is_met: bool) -> None:
        parent = StopToken()
        made: list[StopToken] = []

        def make() -> None:
            made.append(parent.child())

        def stop() -> None:
            parent.stop("why")

        interleaving = at(stop if child_is_met else make)
        interleaving.run(make if child_is_met else stop)
        if interleaving.happened:
            assert made[0].stop_requested
            assert made[0].reason == "why"

    assert everywhere(stop_token, partial(attempt, child_is_met=True)) > 5
    assert everywhere(stop_token, partial(attempt, child_is_met=False)) > 3
