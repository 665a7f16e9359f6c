"""UDP by the batch: what recv_many and send_many do is what as many single calls would do."""

from __future__ import annotations

import array
import errno
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.net.test_tcp import has_ipv6
from tests.support.net_helpers import TIMEOUT, CutOff, GaveUp, parked, run, settle
from trale_py import (
    CancelScope,
    ClosedResourceError,
    Notify,
    TaskCancelled,
    UdpSocket,
    _linux,
    block_on,
)
from trale_py._linux import sockaddr
from trale_py.core.runtime import Runtime
from trale_py.net import udp

FAMILIES = [
    "127.0.0.1",
    pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")),
]


class FakeLib:
    """The compiled functions, with something in between."""

    def __init__(self, **changed: Any) -> None:
        self._ffi, self._lib = _linux.library()
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lib, name)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_linux, "_loaded", (self._ffi, self))


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[UdpSocket, UdpSocket]]:
    with UdpSocket.bind((request.param, 0)) as one, UdpSocket.bind((request.param, 0)) as other:
        yield one, other


async def receive(sock: UdpSocket, count: int, max: int = 64) -> list[Any]:
    got: list[Any] = []
    while len(got) < count:
        got += await sock.recv_many(max)
    return got


async def send(sock: UdpSocket, pairs: list[Any]) -> list[int]:
    """Send all; how many went with each call."""
    counts = []
    while pairs:
        counts.append(await sock.send_many(pairs))
        assert counts[-1] > 0
        pairs = pairs[counts[-1] :]
    return counts


# -- what comes and goes -------------------------------------------------------------------


def test_a_batch_and_its_senders(sock: UdpSocket) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        sent = []
        for n in range(10):
            peer = (one, two)[n % 3 == 0]
            peer.sendto(b"%d" % n, sock.local_addr)
            sent.append((b"%d" % n, ("127.0.0.1", peer.getsockname()[1])))
    assert run(sock.recv_many(64)) == sent


def test_it_waits_for_the_first_one_only(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    for n in range(5):
        waiting = parked(one.recv_many(64))
        assert not waiting.done()
        assert run(other.send_many([(b"%d" % n, one.local_addr)])) == 1
        assert waiting.join(TIMEOUT) == [(b"%d" % n, other.local_addr)]


def test_thousands_in_order_and_none_lost(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    pairs = [(n.to_bytes(4, "big") * (n % 50), one.local_addr) for n in range(6400)]

    got: list[Any] = []
    arrived = Notify()

    async def receiver() -> None:
        while len(got) < len(pairs):
            got.extend(await one.recv_many(64))
            arrived.notify_one()

    async def sender() -> None:
        for start in range(0, len(pairs), 64):
            assert await send(other, pairs[start : start + 64]) == [64]
            while start - len(got) > 64:  # there is room for a few hundred
                await arrived.wait()

    receiving = parked(receiver())
    run(sender())
    receiving.join(TIMEOUT)
    assert got == [(data, other.local_addr) for data, _ in pairs]


def test_no_more_than_max_and_no_more_than_64(sock: UdpSocket, peer: socket.socket) -> None:
    for n in range(100):
        peer.sendto(b"%d" % n, sock.local_addr)

    async def main() -> list[list[Any]]:
        return [await sock.recv_many(n) for n in (1, 3, 1000, 64)]

    batches = run(main())
    assert [len(batch) for batch in batches] == [1, 3, 64, 32]
    assert [int(data) for batch in batches for data, _ in batch] == list(range(100))


def test_the_first_64_are_sent(sock: UdpSocket, peer: socket.socket) -> None:
    pairs = [(b"%d" % n, peer.getsockname()) for n in range(100)]
    assert run(send(sock, pairs)) == [64, 36]
    assert [int(peer.recv(10)) for _ in range(100)] == list(range(100))


def test_D1_datagrams_of_nothing(pair: tuple[UdpSocket, UdpSocket]) -> None:
    one, other = pair
    sent = [b"", b"first", b"", b"", b"last", b""]
    assert run(other.send_many([(data, one.local_addr) for data in sent])) == 6
    assert run(one.recv_many(64)) == [(data, other.local_addr) for data in sent]


def test_D2_one_that_is_too_long(sock: UdpSocket, peer: socket.socket) -> None:
    to = peer.getsockname()
    for too_long in (bytes(65508), bytes(1 << 20)):
        with pytest.raises(OSError, match="Message too long") as caught:
            run(sock.send_many([(too_long, to), (b"x", to)]))
        assert caught.value.errno == errno.EMSGSIZE

        # After others it ends the batch, and is told by the next call.
        pairs = [(b"1", to), (b"2", to), (too_long, to), (b"x", to)]
        assert run(sock.send_many(pairs)) == 2
        with pytest.raises(OSError, match="Message too long"):
            run(sock.send_many(pairs[2:]))
        assert [peer.recv(10), peer.recv(10)] == [b"1", b"2"]
    assert run(sock.send_many([(b"usable", to)])) == 1
    assert peer.recv(10) == b"usable"


def test_D3_nothing_is_cut(pair: tuple[UdpSocket, UdpSocket]) -> None:
    """Nor is anything left in the memory of a longer one that came before."""
    one, other = pair
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    largest = 65527 if ":" in one.local_addr[0] else 65507

    async def main() -> None:
        for sizes in ([largest, 0, 1, largest], [10, largest, 0], [1, 2, 3, 0]):
            sent = [os.urandom(size) for size in sizes]
            assert await send(other, [(data, one.local_addr) for data in sent]) == [len(sent)]
            assert await receive(one, len(sent)) == [(data, other.local_addr) for data in sent]

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_the_same_as_one_by_one(seed: int, pair: tuple[UdpSocket, UdpSocket]) -> None:
    """Against recvfrom and sendto of the standard library."""
    batched, sender = pair
    rng = random.Random(seed)
    family = batched.socket.family
    with socket.socket(family, socket.SOCK_DGRAM) as single:
        single.bind((batched.local_addr[0], 0))
        single.settimeout(TIMEOUT)

        async def main() -> None:
            for _ in range(30):
                sent = [
                    rng.randbytes(rng.choice([0, 1, 100, 1500])) for _ in range(rng.randint(1, 100))
                ]
                await send(sender, [(data, batched.local_addr) for data in sent[:50]])
                for data in sent[50:]:
                    sender.socket.sendto(data, batched.local_addr)
                await send(sender, [(data, single.getsockname()) for data in sent])
                got = await receive(batched, len(sent), rng.randint(1, 70))
                assert got == [single.recvfrom(65535) for _ in sent]

        run(main())


@pytest.mark.parametrize(
    "data",
    [bytearray(b"abcd"), memoryview(b"a.b.c.d.")[::2], array.array("B", b"abcd")],
    ids=["bytearray", "strided", "array"],
)
def test_any_bytes_like_object(data: Any, sock: UdpSocket, peer: socket.socket) -> None:
    assert run(sock.send_many([(data, peer.getsockname()), (b"", peer.getsockname())])) == 2
    assert [peer.recv(10), peer.recv(10)] == [b"abcd", b""]


# -- addresses -----------------------------------------------------------------------------


def test_v4_mapped_addresses(peer: socket.socket) -> None:
    theirs = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    theirs.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    theirs.bind(("::", 0))
    with UdpSocket.from_socket(theirs) as sock:
        port = peer.getsockname()[1]
        peer.sendto(b"x", ("127.0.0.1", sock.local_addr[1]))
        [(data, addr)] = run(sock.recv_many(64))
        assert (data, addr) == (b"x", ("::ffff:127.0.0.1", port, 0, 0))
        assert run(sock.send_many([(b"back", addr), (b"again", f"[::ffff:127.0.0.1]:{port}")])) == 2
        assert [peer.recv(10), peer.recv(10)] == [b"back", b"again"]


def link_local() -> tuple[str, str, int] | None:
    """An address of this machine that needs a scope, its interface and the scope."""
    with Path("/proc/net/if_inet6").open() as lines:
        for digits, index, _, scope, flags, name in map(str.split, lines):
            if scope == "20" and not int(flags, 16) & 0x48:  # not tentative, not a duplicate
                return (
                    socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)),
                    name,
                    int(index, 16),
                )
    return None


@pytest.mark.skipif(not has_ipv6() or not link_local(), reason="no link-local address here")
def test_scope_ids() -> None:
    host, name, scope = link_local() or ("", "", 0)
    with UdpSocket.bind((host, 0, 0, scope)) as one, UdpSocket.bind((host, 0, 0, scope)) as other:
        port = one.local_addr[1]
        to: list[Any] = [one.local_addr, (host, port, 0, scope), f"[{host}%{name}]:{port}"]
        assert run(other.send_many([(b"x", addr) for addr in to])) == 3
        assert run(receive(one, 3)) == [(b"x", other.local_addr)] * 3
        assert other.local_addr[3] == scope


@given(
    port=st.integers(0, 65535),
    flow=st.integers(0, 2**20 - 1),
    scope=st.integers(0, 2**32 - 1),
    raw=st.binary(min_size=16, max_size=16),
)
def test_addresses_to_the_kernel_s_form_and_back(port: int, flow: int, scope: int, raw: bytes):
    v4 = (socket.inet_ntop(socket.AF_INET, raw[:4]), port)
    v6 = (socket.inet_ntop(socket.AF_INET6, raw), port, flow, scope)
    for family, addr in ((socket.AF_INET, v4), (socket.AF_INET6, v6)):
        name = sockaddr.encode(family, *addr)
        assert len(name) == (16 if family == socket.AF_INET else 28)
        assert sockaddr.decode(name) == addr


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_what_is_no_literal_of_the_family(family: socket.AddressFamily) -> None:
    other = "::1" if family == socket.AF_INET else "127.0.0.1"
    for host in ("localhost", "", "::1%lo", other, "1.2.3", "ü"):
        with pytest.raises(OSError, match="illegal IP address"):
            sockaddr.encode(family, host, 1)


def test_names(sock: UdpSocket, peer: socket.socket) -> None:
    port = peer.getsockname()[1]
    pairs: list[Any] = [(b"one", ("localhost", port)), (b"two", ("LOCALHOST", port))]
    assert run(sock.send_many(pairs)) == 2
    assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]


def test_a_name_that_is_not_found(
    sock: UdpSocket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like any other error: the first datagram's is raised, a later one's by the next call."""

    async def resolve(target: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, f"no {target.host}")

    monkeypatch.setattr(udp, "resolve", resolve)
    good, bad = (b"x", peer.getsockname()), (b"x", ("nobody.invalid", 9))
    assert run(sock.send_many([good, good, bad, good])) == 2
    with pytest.raises(socket.gaierror, match="no nobody"):
        run(sock.send_many([bad, good]))


def test_an_address_of_another_family(sock: UdpSocket, peer: socket.socket) -> None:
    good, bad = (b"x", peer.getsockname()), (b"x", "[::1]:9")
    assert run(sock.send_many([good, bad])) == 1
    with pytest.raises(OSError, match="not supported") as caught:
        run(sock.send_many([bad, good]))
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_none_is_where_it_is_connected_to(sock: UdpSocket, peer: socket.socket) -> None:
    with pytest.raises(OSError, match="Destination address required"):
        run(sock.send_many([(b"x", None)]))
    with socket.socket(type=socket.SOCK_DGRAM) as third:
        third.bind(("127.0.0.1", 0))
        third.settimeout(TIMEOUT)
        run(sock.connect(peer.getsockname()))
        pairs: list[Any] = [(b"1", None), (b"2", third.getsockname()), (b"3", None)]
        assert run(sock.send_many(pairs)) == 3
        assert [peer.recv(10), third.recv(10), peer.recv(10)] == [b"1", b"2", b"3"]
        third.sendto(b"stranger", sock.local_addr)
    peer.sendto(b"answer", sock.local_addr)
    assert run(sock.recv_many(9)) == [(b"answer", peer.getsockname())]


# -- errors --------------------------------------------------------------------------------


def test_D5_a_connected_socket_hears_of_it_once(sock: UdpSocket, nobody: tuple[str, int]) -> None:
    run(sock.connect(nobody))
    for hears in (sock.recv_many, lambda _: sock.send_many([(b"y", None)])):
        assert run(sock.send_many([(b"x", None)])) == 1
        with pytest.raises(ConnectionRefusedError):
            run(hears(64))
    waiting = parked(sock.recv_many(64))
    assert not waiting.done()
    with socket.socket(type=socket.SOCK_DGRAM) as late:
        late.bind(nobody)
        late.sendto(b"here now", sock.local_addr)
        assert waiting.join(TIMEOUT) == [(b"here now", nobody)]


def test_D5_a_waiting_receiver_is_told(sock: UdpSocket, nobody: tuple[str, int]) -> None:
    run(sock.connect(nobody))
    waiting = parked(sock.recv_many(64))
    sock.socket.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        waiting.join(TIMEOUT)


def test_D5_one_that_is_gone_does_not_harm_the_others(
    sock: UdpSocket, peer: socket.socket, nobody: tuple[str, int]
) -> None:
    pairs: list[Any] = [(b"x", to) for to in (nobody, peer.getsockname())] * 5
    assert run(sock.send_many(pairs)) == 10
    assert [peer.recv(10) for _ in range(5)] == [b"x"] * 5


def test_D4_no_buffers_is_the_callers_to_know(
    sock: UdpSocket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is writable all the time: to wait for that would be to spin."""
    FakeLib(trale_send_many=lambda *_: -errno.ENOBUFS).install(monkeypatch)
    with pytest.raises(OSError, match="No buffer space") as caught:
        run(sock.send_many([(b"x", peer.getsockname())]))
    assert caught.value.errno == errno.ENOBUFS


def test_D8_errors_of_the_destination(sock: UdpSocket, peer: socket.socket) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        run(sock.send_many([(b"x", "127.0.0.1:0")]))
    with pytest.raises(PermissionError):
        run(sock.send_many([(b"x", "127.255.255.255:9")]))
    good = (b"x", peer.getsockname())
    assert run(sock.send_many([good, (b"x", "127.0.0.1:0"), good])) == 1


def test_sending_waits_while_the_buffer_is_full(
    sock: UdpSocket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback has always room, so "full" is played; that there is room again is real."""
    lib, full = FakeLib(), [True]

    def trale_send_many(*args: Any) -> Any:
        return -errno.EAGAIN if full else lib._lib.trale_send_many(*args)

    lib.trale_send_many = trale_send_many
    lib.install(monkeypatch)
    run(sock.send_to(b"first", peer.getsockname()))  # it is registered,
    settle()  # and that it is writable has been reported
    waiting = parked(sock.send_many([(b"x", peer.getsockname())] * 3))
    assert not waiting.done()
    full.clear()
    sock.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # wakes senders
    assert waiting.join(TIMEOUT) == 3
    assert [peer.recv(10) for _ in range(4)] == [b"first", b"x", b"x", b"x"]


def test_a_batch_is_sent_in_part(
    sock: UdpSocket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    lib = FakeLib()

    def trale_send_many(*args: Any) -> Any:
        return lib._lib.trale_send_many(*args[:-1], min(args[-1], 7))

    lib.trale_send_many = trale_send_many
    lib.install(monkeypatch)
    pairs = [(b"%d" % n, peer.getsockname()) for n in range(20)]
    assert run(send(sock, pairs)) == [7, 7, 6]
    assert [int(peer.recv(10)) for _ in range(20)] == list(range(20))


def test_the_c_functions_return_minus_errno() -> None:
    ffi, lib = _linux.library()
    space = _linux._Space(ffi)
    into = (space.slots, space.names, space.name_lengths, space.lengths)
    assert lib.trale_recv_many(-1, *into, 64) == -errno.EBADF
    assert lib.trale_recv_many(-1, *into, 65) == -errno.EINVAL
    assert lib.trale_send_many(-1, b"", b"", [0], [0], 1) == -errno.EBADF
    assert lib.trale_send_many(-1, b"", b"", [0] * 65, [0] * 65, 65) == -errno.EINVAL


def test_L3_no_memory_for_the_batch(
    sock: UdpSocket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been received by then, so nothing is lost."""

    def refuse(*args: Any) -> Any:
        raise MemoryError

    peer.sendto(b"x", sock.local_addr)
    with monkeypatch.context() as patch:
        patch.setattr(_linux, "_spaces", [])
        patch.setattr(_linux.mmap, "mmap", refuse)
        with pytest.raises(MemoryError):
            run(sock.recv_many(64))
    assert run(sock.recv_many(64)) == [(b"x", peer.getsockname())]


def test_L3_no_memory_for_the_copies(
    sock: UdpSocket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The datagrams are gone, but the memory they came in is there for the next call."""

    def refuse(name: bytes) -> Any:
        raise MemoryError

    peer.sendto(b"x", sock.local_addr)
    monkeypatch.setattr(_linux, "_spaces", [])
    with monkeypatch.context() as patch:
        patch.setattr(_linux, "decode", refuse)
        with pytest.raises(MemoryError):
            run(sock.recv_many(64))
    assert len(_linux._spaces) == 1
    peer.sendto(b"y", sock.local_addr)
    assert run(sock.recv_many(64)) == [(b"y", peer.getsockname())]
    assert len(_linux._spaces) == 1


@pytest.mark.parametrize("bad", [0, -1])
def test_C13_max_below_one(bad: int, sock: UdpSocket) -> None:
    with pytest.raises(ValueError, match=rf"max must be 1 or more, not {bad}"):
        run(sock.recv_many(bad))


@pytest.mark.parametrize("bad", [1.5, "1", None])
def test_max_that_is_no_number(bad: Any, sock: UdpSocket) -> None:
    with pytest.raises(TypeError, match="max must be an int, not"):
        run(sock.recv_many(bad))


@pytest.mark.parametrize(
    "pairs",
    [None, 3, iter([]), {b"x": "127.0.0.1:9"}, [b"xy"], [None], [(b"x",)], "xy"],
    ids=["None", "int", "iterator", "dict", "no-pair", "None-in-it", "one", "str"],
)
def test_what_is_no_list_of_pairs_is_refused_at_the_call(pairs: Any, sock: UdpSocket) -> None:
    with pytest.raises(TypeError, match="pairs must be a list of"):
        sock.send_many(pairs)


def test_bad_addresses_are_refused_at_the_call(sock: UdpSocket) -> None:
    good = (b"x", "127.0.0.1:9")
    for bad in ("127.0.0.1", ("127.0.0.1",), ("", 9), ("127.0.0.1", 65536), ("127.0.0.1", 9.0)):
        with pytest.raises(ValueError, match="bad address"):
            sock.send_many([good, (b"x", bad)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="the address addr must be"):
        sock.send_many([good, (b"x", 9)])  # type: ignore[list-item]


@pytest.mark.parametrize("bad", ["text", 3, None])
def test_what_is_not_bytes_like_is_refused(bad: Any, sock: UdpSocket, peer: socket.socket) -> None:
    """All of them are looked at before any is sent."""
    with pytest.raises(TypeError, match="data must be bytes-like, not"):
        run(sock.send_many([(b"x", peer.getsockname()), (bad, peer.getsockname())]))
    peer.settimeout(0)
    with pytest.raises(BlockingIOError):
        peer.recv(10)


# -- waiting, cancelling, closing ----------------------------------------------------------


def test_a_short_batch_hides_nothing_that_comes_after_it(
    sock: UdpSocket, peer: socket.socket
) -> None:
    async def main() -> None:
        for n in range(1000):
            peer.sendto(b"%d" % n, sock.local_addr)
            assert await sock.recv_many(64) == [(b"%d" % n, peer.getsockname())]

    run(main())


def test_several_receivers_each_datagram_once(sock: UdpSocket, peer: socket.socket) -> None:
    got: list[bytes] = []

    async def forever(max: int) -> None:
        while b"end" not in got:
            got.extend(data for data, _ in await sock.recv_many(max))

    receivers = [parked(forever(n)) for n in (1, 2, 5, 64)]
    sent = [b"%d" % n for n in range(100)]
    for data in [*sent, b"end", *[b""] * 20]:
        peer.sendto(data, sock.local_addr)
    for handle in receivers:
        handle.join(TIMEOUT)
    assert sorted(filter(None, got)) == sorted([*sent, b"end"])


def test_F4_one_of_two_waiters_is_cancelled(sock: UdpSocket, peer: socket.socket) -> None:
    gone, stays = parked(sock.recv_many(64)), parked(sock.recv_many(64))
    gone.cancel()
    with pytest.raises(TaskCancelled):
        gone.join(TIMEOUT)
    peer.sendto(b"x", sock.local_addr)
    assert stays.join(TIMEOUT) == [(b"x", peer.getsockname())]


def test_F4_a_receiver_is_cut_off_as_the_datagrams_come(
    sock: UdpSocket, peer: socket.socket
) -> None:
    cut: CutOff[Any] = CutOff(sock.recv_many(64))
    gone, stays = parked(cut), parked(sock.recv_many(64))

    async def busy() -> None:
        for _ in range(3):
            peer.sendto(b"x", sock.local_addr)
        cut.cut()

    run(busy())
    with pytest.raises(GaveUp):
        gone.join(TIMEOUT)
    got = stays.join(TIMEOUT)
    assert got + run(receive(sock, 3 - len(got))) == [(b"x", peer.getsockname())] * 3


def test_F4_cancelled_it_has_received_and_sent_nothing(
    sock: UdpSocket, peer: socket.socket
) -> None:
    peer.sendto(b"x", sock.local_addr)
    reached = []

    async def main() -> None:
        for operation in (
            lambda: sock.recv_many(64),
            lambda: sock.send_many([(b"y", peer.getsockname())]),
            lambda: sock.send_many([]),
        ):
            with CancelScope() as scope:
                scope.cancel()
                await operation()  # type: ignore[no-untyped-call]
                reached.append(operation)

    run(main())
    assert reached == []
    assert run(sock.recv_many(64)) == [(b"x", peer.getsockname())]
    peer.settimeout(0)
    with pytest.raises(BlockingIOError):
        peer.recv(10)


def test_nothing_to_send(sock: UdpSocket) -> None:
    assert run(sock.send_many([])) == 0
    assert run(sock.send_many(())) == 0


@pytest.mark.parametrize("closer", ["task", "thread"])
def test_B1_close_under_receivers(closer: str, sock: UdpSocket) -> None:
    async def close() -> None:
        sock.close()

    handles = [parked(sock.recv_many(64)), parked(sock.recv_many(1))]
    if closer == "task":
        block_on(close())
    else:
        thread = threading.Thread(target=sock.close)
        thread.start()
        thread.join(TIMEOUT)
    for handle in handles:
        with pytest.raises(ClosedResourceError, match="UdpSocket was closed"):
            handle.join(TIMEOUT)
    for call in (
        sock.recv_many(1),
        sock.send_many([]),
        sock.send_many([(b"x", "127.0.0.1:9")]),
        sock.send_many([(b"x", None)]),
        sock.send_many([(b"x", "localhost:9")]),
    ):
        with pytest.raises(ClosedResourceError):
            run(call)


def test_runtimes_receive_into_memory_of_their_own() -> None:
    """The GIL is dropped around the call, so theirs may overlap."""
    runtimes = [Runtime() for _ in range(3)]

    async def main(mark: bytes) -> None:
        with UdpSocket.bind("127.0.0.1:0") as one, UdpSocket.bind("127.0.0.1:0") as other:
            expected = [(mark * 1000, other.local_addr)] * 64
            for _ in range(100):
                assert await other.send_many([(mark * 1000, one.local_addr)] * 64) == 64
                assert await receive(one, 64) == expected

    try:
        handles = [runtime.spawn(main(b"%d" % n)) for n, runtime in enumerate(runtimes)]
        for handle in handles:
            handle.join(TIMEOUT)
    finally:
        for runtime in runtimes:
            runtime.shutdown()


# -- the build -----------------------------------------------------------------------------


def test_a_checkout_that_was_not_built(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """It says so where the compiled part is needed, and works elsewhere."""
    done = run_script("""
        import sys

        sys.modules["trale_py._linux._ffi"] = None  # as if the file were not there
        from trale_py import UdpSocket, block_on

        with UdpSocket.bind("127.0.0.1:0") as sock:
            for coro in (sock.recv_many(1), sock.send_many([(b"x", sock.local_addr)])):
                try:
                    block_on(coro)
                except ImportError as error:
                    print(error)
            block_on(sock.send_to(b"x", sock.local_addr))
            print(block_on(sock.recv()))
    """)
    assert done.stderr == ""
    *errors, received = done.stdout.splitlines()
    assert [error.split(" (")[0] for error in errors] == [
        "trale_py._linux is not built: pip install -e ."
    ] * 2
    assert received == "b'x'"


def test_the_import_loads_nothing_compiled(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_script("""
        import sys, trale_py

        compiled = ("cffi", "_cffi_backend", "trale_py._linux._ffi")
        print([name for name in compiled if name in sys.modules])
    """)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_code_gives_no_warning() -> None:
    source = Path(_linux.__file__).parent / "batch.c"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    done = subprocess.run(
        ["cc", "-fsyntax-only", *flags, str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_is_compiled_for_all_python_versions() -> None:
    from trale_py._linux import _ffi

    assert _ffi.__file__.endswith(".abi3.so"), sys.version
