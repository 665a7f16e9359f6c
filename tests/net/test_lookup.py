"""resolve and reverse_lookup, and the options of connect."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, run
from trale_py import TcpStream, resolve, reverse_lookup


def test_literals_and_names() -> None:
    assert run(resolve("127.0.0.1", 80)) == [("127.0.0.1", 80)]
    assert run(resolve("::1")) == [("::1", 0, 0, 0)]
    assert ("127.0.0.1", 5) in run(resolve("localhost", 5))
    with pytest.raises(socket.gaierror, match="no-such-host"):
        run(resolve("no-such-host.invalid"))
    for host in ("1", "*", "a\0b"):
        with pytest.raises(ValueError, match="bad address"):
            run(resolve(host))


def test_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def getnameinfo(address: Any, flags: int) -> tuple[str, str]:
        asked.append((address, flags))
        if address[0] == "192.0.2.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return "a.name", "80"

    monkeypatch.setattr(socket, "getnameinfo", getnameinfo)
    assert run(reverse_lookup(("127.0.0.1", 80))) == "a.name"
    assert asked == [(("127.0.0.1", 80), socket.NI_NAMEREQD)]
    with pytest.raises(socket.gaierror, match=r"192\.0\.2\.1"):
        run(reverse_lookup("192.0.2.1:1"))
    with pytest.raises(ValueError, match="localhost"):
        run(reverse_lookup("localhost:1"))


def test_connect_from_an_address_of_ones_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        async def main() -> None:
            stream = await TcpStream.connect(address, local_addr=("127.0.0.2", 0))
            with stream:
                assert stream.local_addr[0] == "127.0.0.2"
                accepted, peer = server.accept()
                accepted.close()
                assert peer == stream.local_addr
            with pytest.raises(OSError, match="family"):
                await TcpStream.connect(address, local_addr="[::1]:0", timeout=TIMEOUT)
            with pytest.raises(ValueError, match="happy_eyeballs_delay must be"):
                TcpStream.connect(address, happy_eyeballs_delay=-1)
            with pytest.raises(ValueError, match="name"):
                TcpStream.connect(address, local_addr="example.org:0")

        run(main())
