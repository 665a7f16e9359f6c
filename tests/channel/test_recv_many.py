"""recv_many: what is there, at least one, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, parked
from trale_py import TaskCancelled, block_on
from trale_py.channel import Closed, channel


@pytest.mark.parametrize("face", ["await", "blocking"])
class TestRecvMany:
    def receive(self, rx: Any, most: int, face: str) -> Any:
        if face == "await":
            return block_on(rx.recv_many(most))
        return rx.recv_many_blocking(most, TIMEOUT)

    def test_it_takes_what_is_there_and_no_more_than_asked_for(self, face: str) -> None:
        tx, rx = channel(10)
        for n in range(5):
            tx.try_send(n)
        assert self.receive(rx, 3, face) == [0, 1, 2]
        assert self.receive(rx, 9, face) == [3, 4]
        tx.try_send(5)
        tx.close()
        assert self.receive(rx, 9, face) == [5]
        with pytest.raises(Closed):
            self.receive(rx, 9, face)

    def test_it_waits_for_the_first_and_takes_from_the_hands_of_senders(self, face: str) -> None:
        tx, rx = channel(0)
        sending = [parked(tx.send(n)) for n in range(3)]
        assert self.receive(rx, 9, face) == [0, 1, 2]
        for handle in sending:
            handle.join(TIMEOUT)

    def test_max_is_checked(self, face: str) -> None:
        _tx, rx = channel(1)
        with pytest.raises(ValueError, match="max must be 1 or more"):
            self.receive(rx, 0, face)


def test_C4_cancelled_it_takes_none() -> None:
    tx, rx = channel(10)
    waiting = parked(rx.recv_many(5))
    waiting.cancel()
    tx.try_send(1)
    with pytest.raises(TaskCancelled):
        waiting.join(TIMEOUT)
    assert rx.try_recv() == 1
