"""UDP: datagrams come whole or not at all, and an error is the business of one socket only."""

from __future__ import annotations

import array
import errno
import os
import socket
import threading
from typing import Any

import pytest

from tests.net.test_tcp import has_ipv6
from tests.support.net_helpers import TIMEOUT, CutOff, GaveUp, executor_turn, parked, run
from trale_py import ClosedResourceError, UdpSocket, block_on


def test_a_datagram_and_its_sender(sock: UdpSocket, peer: socket.socket) -> None:
    waiting = parked(sock.recv_from())
    peer.sendto(b"hello", sock.local_addr)
    assert waiting.join(TIMEOUT) == (b"hello", peer.getsockname())
    assert run(sock.send_to(b"good bye", peer.getsockname())) == 8
    assert peer.recvfrom(100) == (b"good bye", sock.local_addr)


def test_datagrams_are_not_joined(sock: UdpSocket, peer: socket.socket) -> None:
    for n in range(10):
        peer.sendto(b"x" * n, sock.local_addr)

    async def main() -> list[int]:
        return [len((await sock.recv_from())[0]) for _ in range(10)]

    assert run(main()) == list(range(10))


def test_D1_a_datagram_of_nothing_is_a_datagram(sock: UdpSocket, peer: socket.socket) -> None:
    assert run(sock.send_to(b"", peer.getsockname())) == 0
    assert peer.recvfrom(10) == (b"", sock.local_addr)
    peer.sendto(b"", sock.local_addr)
    assert run(sock.recv_from()) == (b"", peer.getsockname())

    async def iterate() -> list[bytes]:
        got = []
        async for data, _ in sock:
            got.append(data)
            if data == b"last":
                break
        return got

    for data in (b"", b"first", b"", b"last"):
        peer.sendto(data, sock.local_addr)
    assert run(iterate()) == [b"", b"first", b"", b"last"]


def test_D2_too_long_a_datagram(sock: UdpSocket, peer: socket.socket) -> None:
    largest = os.urandom(65507)
    with pytest.raises(OSError, match="Message too long") as caught:
        run(sock.send_to(largest + b"x", peer.getsockname()))
    assert caught.value.errno == errno.EMSGSIZE
    assert run(sock.send_to(largest, peer.getsockname())) == 65507
    assert peer.recv(65535) == largest
    peer.sendto(largest, sock.local_addr)
    assert run(sock.recv_from()) == (largest, peer.getsockname())


@pytest.mark.parametrize("n", [0, 10])
def test_D3_no_datagram_is_cut_silently(n: int, sock: UdpSocket, peer: socket.socket) -> None:
    for size in (1000, n, n + 1, n):
        peer.sendto(b"x" * size, sock.local_addr)

    async def main() -> None:
        for size in (1000, n, n + 1, n):
            if size > n:
                with pytest.raises(OSError, match=f"more than {n} bytes") as caught:
                    await sock.recv_from(n)
                assert caught.value.errno == errno.EMSGSIZE
            else:
                assert await sock.recv_from(n) == (b"x" * n, peer.getsockname())

    run(main())


def test_D5_nobody_there_harms_no_other_destination(
    sock: UdpSocket, peer: socket.socket, nobody: tuple[str, int]
) -> None:

    async def main() -> None:
        for _ in range(5):
            assert await sock.send_to(b"lost", nobody) == 4
            assert await sock.send_to(b"found", peer.getsockname()) == 5

    run(main())
    for _ in range(5):
        assert peer.recv(10) == b"found"
    peer.sendto(b"answer", sock.local_addr)
    assert run(sock.recv()) == b"answer"


def test_D5_a_connected_socket_hears_of_it_once(sock: UdpSocket, nobody: tuple[str, int]) -> None:

    async def main() -> None:
        await sock.connect(nobody)
        await sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            await sock.recv()

    run(main())
    waiting = parked(sock.recv())
    executor_turn()
    assert not waiting.done()
    with socket.socket(type=socket.SOCK_DGRAM) as late:
        late.bind(nobody)
        late.sendto(b"here now", sock.local_addr)
        assert waiting.join(TIMEOUT) == b"here now"


def test_D5_a_waiting_receiver_is_told(sock: UdpSocket, nobody: tuple[str, int]) -> None:
    run(sock.connect(nobody))
    waiting = parked(sock.recv_from())
    sock.socket.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        waiting.join(TIMEOUT)


def test_D8_errors_of_the_destination(sock: UdpSocket) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        run(sock.send_to(b"x", "127.0.0.1:0"))
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(PermissionError):
        run(sock.send_to(b"x", "127.255.255.255:9"))  # broadcast, without SO_BROADCAST
    with pytest.raises(OSError, match="Destination address required"):
        run(sock.send(b"x"))


def test_several_receivers_each_datagram_once(sock: UdpSocket, peer: socket.socket) -> None:
    async def receive(n: int) -> list[bytes]:
        return [(await sock.recv_from())[0] for _ in range(n)]

    receivers = [parked(receive(10)) for _ in range(5)]
    sent = [b"%d" % n for n in range(50)]
    for data in sent:
        peer.sendto(data, sock.local_addr)
    got = [data for handle in receivers for data in handle.join(TIMEOUT)]
    assert sorted(got) == sorted(sent)


def test_a_receiver_is_cut_off_as_the_datagram_comes(sock: UdpSocket, peer: socket.socket) -> None:
    """The one that is left gets it, although the other was woken for it too."""
    cut: CutOff[Any] = CutOff(sock.recv_from())
    gone, stays = parked(cut), parked(sock.recv_from())

    async def busy() -> None:
        peer.sendto(b"x", sock.local_addr)
        cut.cut()

    run(busy())
    with pytest.raises(GaveUp):
        gone.join(TIMEOUT)
    assert stays.join(TIMEOUT)[0] == b"x"


def test_connected_it_hears_one_peer_only(sock: UdpSocket, peer: socket.socket) -> None:
    run(sock.connect(peer.getsockname()))
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"stranger", sock.local_addr)
    peer.sendto(b"peer", sock.local_addr)
    assert run(sock.recv()) == b"peer"
    assert run(sock.send(b"answer")) == 6
    assert peer.recv(10) == b"answer"


def test_names(peer: socket.socket, sock: UdpSocket) -> None:
    name = ("localhost", peer.getsockname()[1])
    assert run(sock.send_to(b"one", name)) == 3
    run(sock.connect(name))
    assert run(sock.send(b"two")) == 3
    assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]


@pytest.mark.parametrize("addr", ["localhost:0", ":0", ("", 0), ("127.0.0.1", 0)])
def test_bind(addr: Any) -> None:
    with UdpSocket.bind(addr) as sock:
        assert sock.local_addr[0] in ("127.0.0.1", "0.0.0.0")
        assert sock.local_addr[1] > 0


def test_bind_refuses_a_name_and_a_port_that_is_taken(sock: UdpSocket) -> None:
    with pytest.raises(ValueError, match="cannot bind to"):
        UdpSocket.bind("example.org:80")
    with pytest.raises(OSError, match=r"in use: 127\.0\.0\.1:"):
        UdpSocket.bind(sock.local_addr)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ipv6() -> None:
    with UdpSocket.bind("[::1]:0") as one, UdpSocket.bind(("::1", 0)) as two:
        run(one.send_to(b"x", two.local_addr))
        assert run(two.recv_from()) == (b"x", one.local_addr)


def test_an_address_of_another_family(sock: UdpSocket) -> None:
    with pytest.raises(OSError, match="not supported") as caught:
        run(sock.send_to(b"x", "[::1]:9"))
    assert caught.value.errno == errno.EAFNOSUPPORT


@pytest.mark.parametrize("closer", ["task", "thread"])
def test_B1_close_under_receivers(closer: str, sock: UdpSocket) -> None:
    async def iterate() -> None:
        async for _ in sock:
            pass

    async def close() -> None:
        sock.close()

    handles: list[Any] = [parked(sock.recv_from()), parked(sock.recv()), parked(iterate())]
    if closer == "task":
        block_on(close())
    else:
        thread = threading.Thread(target=sock.close)
        thread.start()
        thread.join(TIMEOUT)
    for handle in handles:
        with pytest.raises(ClosedResourceError, match="UdpSocket was closed"):
            handle.join(TIMEOUT)
    for call in (sock.recv(), sock.send(b"x"), sock.send_to(b"x", "127.0.0.1:9")):
        with pytest.raises(ClosedResourceError):
            run(call)


def test_sending_waits_while_the_buffer_is_full(sock: UdpSocket, peer: socket.socket) -> None:
    """Datagrams are sent one by one; none is refused because too many are on their way."""
    sock.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    async def main() -> int:
        return sum([await sock.send_to(bytes(1000), peer.getsockname()) for _ in range(200)])

    assert run(main()) == 200_000


@pytest.mark.parametrize(
    "data",
    [bytearray(b"abcd"), memoryview(b"a.b.c.d.")[::2], array.array("B", b"abcd")],
    ids=["bytearray", "strided", "array"],
)
def test_any_bytes_like_object(data: Any, sock: UdpSocket, peer: socket.socket) -> None:
    assert run(sock.send_to(data, peer.getsockname())) == 4
    run(sock.connect(peer.getsockname()))
    assert run(sock.send(data)) == 4
    assert [peer.recv(10), peer.recv(10)] == [b"abcd"] * 2


@pytest.mark.parametrize("bad", ["text", 3, None])
def test_what_is_not_bytes_like_is_refused(bad: Any, sock: UdpSocket) -> None:
    for call in (lambda: sock.send(bad), lambda: sock.send_to(bad, "127.0.0.1:9")):
        with pytest.raises(TypeError, match="data must be bytes-like, not"):
            run(call())


def test_C13_bad_sizes(sock: UdpSocket) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        run(sock.recv_from(-1))
    with pytest.raises(TypeError, match="must be an int"):
        run(sock.recv(1.5))  # type: ignore[arg-type]


def test_from_socket(peer: socket.socket) -> None:
    theirs = socket.socket(type=socket.SOCK_DGRAM)
    theirs.bind(("127.0.0.1", 0))
    with UdpSocket.from_socket(theirs) as sock:
        waiting = parked(sock.recv())
        peer.sendto(b"x", sock.local_addr)
        assert waiting.join(TIMEOUT) == b"x"
    with socket.socket() as tcp, pytest.raises(ValueError, match="cannot take over"):
        UdpSocket.from_socket(tcp)


def test_a_dropped_socket_warns() -> None:
    sock = UdpSocket.bind("127.0.0.1:0")
    with pytest.warns(ResourceWarning, match="unclosed <UdpSocket fd="):
        del sock
