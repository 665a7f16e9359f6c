"""What the tests of UdpSocket share: a socket, a peer of the standard library, and nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.net_helpers import TIMEOUT, free_port
from trale_py import UdpSocket


@pytest.fixture
def sock() -> Iterator[UdpSocket]:
    with UdpSocket.bind("127.0.0.1:0") as sock:
        yield sock


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(TIMEOUT)
        yield peer


@pytest.fixture
def nobody() -> tuple[str, int]:
    """An address that no socket is bound to."""
    return ("127.0.0.1", free_port(socket.SOCK_DGRAM))
