"""examples/web_server.py: it serves files to many, and nothing else to anybody."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.test_examples import connect, finish, start

pytest.importorskip("h11", reason="needs the extra web")

pytestmark = pytest.mark.slow

INDEX = b"<h1>hello</h1>\n"
SECRET = b"nobody may read this\n"
BIG = 50_000_000  # more than the sockets' buffers take


class Server:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def send(self, *pieces: bytes) -> bytes:
        """All that it answers, until it closes the connection."""
        with connect(self.port) as conn:
            for piece in pieces:
                conn.sendall(piece)
            return read_all(conn)

    def get(self, target: str, method: str = "GET", *fields: str) -> tuple[int, bytes]:
        head = "\r\n".join(
            [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]
        )
        answer, _, body = self.send(head.encode("latin-1")).partition(b"\r\n\r\n")
        return int(answer.split()[1]), body

    def connections(self) -> int:
        links = Path(f"/proc/{self.process.pid}/fd").iterdir()
        count = 0
        for link in links:
            with contextlib.suppress(OSError):
                count += str(link.readlink()).startswith("socket:")
        return count - 1  # the listener


def read_all(conn: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := conn.recv(1 << 20):
            received += data
    return received


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_bytes(INDEX)
    (site / "sub" / "a b.txt").write_bytes(b"in a folder")
    (site / "empty").write_bytes(b"")
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (site / "link").symlink_to(tmp_path / "secret")
    (site / "way_out").symlink_to(tmp_path / "outside")
    os.mkfifo(site / "fifo")
    with (site / "big").open("wb") as big:
        big.truncate(BIG)
    return site


@pytest.fixture
def serve(site: Path) -> Iterator[Callable[..., Server]]:
    servers = []

    def serve(patience: float = 20) -> Server:
        process = start("web_server.py", "--port", "0", "--patience", str(patience), str(site))
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith(f"serving {site} at http://127.0.0.1:")
        servers.append(process)
        return Server(process, int(said.rstrip("/\n").rsplit(":", 1)[1]))

    yield serve
    for process in servers:
        process.send_signal(signal.SIGINT)
        out, err = finish(process)
        assert (out, err) == (["bye"], "")  # no traceback of any connection


def test_files_are_served(serve: Callable[..., Server]) -> None:
    server = serve()
    assert server.get("/") == (200, INDEX)
    assert server.get("/index.html?query=1") == (200, INDEX)
    assert server.get("/sub/a%20b.txt") == (200, b"in a folder")
    assert server.get("/empty") == (200, b"")
    assert server.get("/", "HEAD") == (200, b"")
    assert server.get("/big") == (200, bytes(BIG))
    assert server.get("/nothing") == (404, b"")
    assert server.get("/sub") == (404, b"")
    assert server.get("/sub/") == (404, b"")  # it has no index.html


def test_a_target_with_scheme_and_host_is_answered(serve: Callable[..., Server]) -> None:
    server = serve()
    for host in ("http://x", "HTTP://x:80", "https://[::1]:8000"):
        assert server.get(host) == (200, INDEX)
        assert server.get(f"{host}/") == (200, INDEX)
        assert server.get(f"{host}?query=1") == (200, INDEX)
        assert server.get(f"{host}/sub/a%20b.txt?q=/") == (200, b"in a folder")
        assert server.get(f"{host}/../secret") == (404, b"")
    for bad in ("http://", "http:///index.html", "ftp://x/"):
        assert server.get(bad) == (400, b"")


def test_several_requests_on_one_connection(serve: Callable[..., Server]) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n%s\r\n"
    answer = serve().send((request % b"") * 2 + request % b"Connection: close\r\n")
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.count(INDEX) == 3
    assert b"content-type: text/html" in answer
    assert b"content-length: %d\r\n" % len(INDEX) in answer


WAYS_OUT = [
    "/../secret",
    "/sub/../../secret",
    "/%2e%2e/secret",
    "/..%2fsecret",
    "/%2e%2e%2fsecret",
    "/%252e%252e/secret",
    "/..%5csecret",
    "//secret",
    "/./index.html",
    "/link",
    "/way_out/secret",
    "/way_out/../../secret",
    "/sub/../index.html",
    "/index.html/",
    "/index.html%00.txt",
    "/%00",
    "/{root}/secret",
    "{root}/secret",
    "http://x{root}/secret",
    "*",
    "/fifo",
    "/" + "a" * 5000,
    "/%ff%fe",
]


def test_K1_K4_no_way_out_and_no_special_files(serve: Callable[..., Server], site: Path) -> None:
    server = serve()
    for target in WAYS_OUT:
        status, body = server.get(target.replace("{root}", str(site.parent)))
        assert status in (400, 404), target
        assert body == b"", target


def test_K4_a_device(serve: Callable[..., Server], site: Path) -> None:
    try:
        os.mknod(site / "zero", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")
    assert serve().get("/zero") == (404, b"")


REFUSED = [
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", 413),
    (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
    (b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),  # without a Host
    (b"rubbish\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000, 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 100_000 + b"\r\n", 431),
    (b"G" * 20_000, 431),
]


def test_K3_what_is_refused(serve: Callable[..., Server]) -> None:
    server = serve()
    for head, status in REFUSED:
        with connect(server.port) as conn:
            with contextlib.suppress(ConnectionError):  # it need not read all of it
                conn.sendall(head)
            assert read_all(conn).startswith(b"HTTP/1.1 %d" % status), head[:80]
    assert server.get("/") == (200, INDEX)


def test_K2_who_is_slow_with_a_head_is_closed_however_busy(serve: Callable[..., Server]) -> None:
    """A byte now and then does not prolong it, and others are served meanwhile."""
    server = serve(patience=1)
    with connect(server.port) as silent, connect(server.port) as dripping:
        dripping.settimeout(0.05)
        assert server.get("/") == (200, INDEX)
        answer, count = b"?", 0
        with contextlib.suppress(ConnectionError):
            while answer:
                dripping.send(b"G")
                count += 1
                with contextlib.suppress(TimeoutError):
                    answer = dripping.recv(100)
        assert 2 <= count < 100
        assert read_all(silent) == b""


def test_K2_who_does_not_read_is_closed(serve: Callable[..., Server]) -> None:
    server = serve(patience=1)
    with connect(server.port) as conn:
        conn.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        assert conn.recv(1)
        with connect(server.port) as other:
            assert read_all(other) == b""  # which has said nothing, and began later
        while server.connections():
            pass
        assert len(read_all(conn)) < BIG


def test_K2_one_client_has_so_many_connections_and_no_more(serve: Callable[..., Server]) -> None:
    server = serve()
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(connect(server.port)) for _ in range(100)]
        assert read_all(stack.enter_context(connect(server.port))) == b""
        conns[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert INDEX in read_all(conns[0])
        while server.connections() >= 100:
            pass
        assert server.get("/") == (200, INDEX)
