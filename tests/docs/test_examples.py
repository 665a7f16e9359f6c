"""The examples, run as programs: what they print is what their first lines promise."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.net_helpers import free_port
from trale_py import TcpListener, spawn, tls

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LINES = {"demo.py": 120, "web_server.py": 175}


@pytest.fixture(autouse=True)
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test has started and, as it failed, not seen the end of, ends with it."""
    running.clear()
    yield running
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)  # and its own: they have the pipes as well
        process.communicate()


running: list[subprocess.Popen[str]] = []


def start(name: str, *args: str, warnings: str = "error") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", warnings, str(EXAMPLES / name), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running.append(process)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    out, err = process.communicate(timeout=30)
    running.remove(process)
    assert process.returncode == 0, err
    return out.splitlines(), err


def connect(port: int) -> socket.socket:
    """Connect as soon as the example listens: it says so to nobody, so this has to try."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_short_and_says_how_to_run_it(name: str) -> None:
    source = (EXAMPLES / name).read_text()
    assert len(source.splitlines()) < LINES.get(name, 60)
    run = re.search(rf"python examples/{name}(.*)", source)
    assert run is not None
    assert not set("[]<>") & set(run[1])  # a shell takes the line as it stands


def test_timer() -> None:
    out, err = finish(start("timer.py"))
    assert err == ""
    pairs = [sorted(out[n : n + 2]) for n in (0, 2, 4)]
    assert pairs == [[f"Hello {c}!", f"Hello {c.lower()}!"] for c in "ABC"]


def test_sub_tasks() -> None:
    out, err = finish(start("sub_tasks.py"))
    assert err == ""
    assert out[:2] == ["Hello A!", "Hello from other task"]
    assert sorted(out[2:4]) == ["Bye bye from other task", "Hello B!"]
    assert out[4:] == ["Hello C!"]


def test_udp() -> None:
    out, err = finish(start("udp.py", "--port", str(free_port(socket.SOCK_DGRAM))))
    assert err == ""
    assert out[0] == "Hello A!"
    received, sent = sorted(out[1:3])
    assert received.startswith("Received 20 bytes from 127.0.0.1:")
    assert sent == "Sent 20 bytes"
    assert out[3:] == ["Hello B!", "Hello C!"]


def test_udp_flood() -> None:
    out, err = finish(start("udp_flood.py", "--count", "5000"))
    assert err == ""
    assert out[0] == "5000 datagrams there and back"
    assert re.fullmatch(r"[\d,]+ each second, \d+\.\d received in one system call", out[1])


def test_asyncio_libraries() -> None:
    pytest.importorskip("aiohttp")
    out, err = finish(start("asyncio_libraries.py"))
    assert err == ""
    assert sorted(line.partition(":")[0] for line in out[:10]) == [f"page {n}" for n in range(10)]
    assert out[10].startswith("ten pages in ")


def test_database() -> None:
    pytest.importorskip("aiosqlite")
    out, err = finish(start("database.py"))
    assert err == ""
    assert out == ["3 rows, in one transaction: ['one', 'two', 'three']"]


def test_fastapi_app() -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port = free_port()
    process = start("fastapi_app.py", str(port))
    with connect(port) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while data := client.recv(1000):
            answer += data
    assert b'"hello":"world"' in answer
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert (out, err) == (["served to the end"], "")


def test_tcp_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        process = start("tcp.py", "--port", str(server.getsockname()[1]))
        conn, _ = server.accept()
        with conn:
            conn.sendall(b"hello over there\n")
            echoed = b""
            while len(echoed) < 17:
                echoed += conn.recv(100)
    assert echoed == b"hello over there\n"
    out, err = finish(process)
    assert out == ["Hello A!", "Hello B!", "Hello C!"]
    assert err == "Conversation finished.  Read 17 bytes\n"


def test_tcp_serv() -> None:
    port = free_port()
    process = start("tcp_serv.py", "--port", str(port))
    with connect(port) as conn:
        conn.sendall(b"x" * 1000)
        conn.shutdown(socket.SHUT_WR)
        echoed = b""
        while data := conn.recv(4096):
            echoed += data
    assert echoed == b"x" * 1000
    out, err = finish(process)
    assert out == [f"Hello {c}!" for c in "ABCD"]
    assert err == "Conversation finished.  Read 1000 bytes\n"


def test_echo_server_many_clients_and_ctrl_c() -> None:
    process = start("echo_server.py", "--port", "0")
    assert process.stdout is not None
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    conns = [connect(port) for _ in range(20)]
    for n, conn in enumerate(conns):
        conn.sendall(b"%d" % n)
    assert [conn.recv(10) for conn in conns] == [b"%d" % n for n in range(20)]
    for conn in conns:
        conn.close()
    said = [process.stdout.readline() for _ in range(40)]
    assert sum("went" in line for line in said) == 20
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert out == ["bye"]
    assert err == ""


def test_timeout() -> None:
    out, err = finish(start("timeout.py"))
    assert err == ""
    assert out == [
        "the limit on one await: timed out after 0.1 seconds",
        out[1],
        "the cleanup took the time it needed",
        "the task was cancelled: the user has gone",
    ]
    assert out[1].startswith("the block was left after 0.")


def test_group_in_a_script() -> None:
    out, err = finish(start("group_in_a_script.py"))
    assert err == ""
    assert out == [
        "the squares: [0, 1, 4, 9]",
        "task 2 gives up",
        "other tasks are cancelled",
        "what failed: [ValueError('2 is not a good number')]",
    ]


def test_network_request() -> None:
    out, err = finish(start("network_request.py"))
    assert err == ""
    names = ["users", "posts", "photos"]
    assert out[:6] == [f"{n}: asked" for n in names] + [f"{n}: 'data of {n}'" for n in names]
    assert len(out) == 7


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals(signum: signal.Signals) -> None:
    process = start("signals.py")
    assert process.stdout is not None
    assert process.stdout.readline() == f"process {process.pid} is ready\n"
    process.send_signal(signum)
    out, err = finish(process)
    assert out[0] == f"{signum.name}: the workers are cancelled"
    assert sorted(out[1:-1]) == [f"worker {n} puts its things away" for n in range(3)]
    assert (out[-1], err) == ("done", "")


def test_ctrl_c() -> None:
    process = start("ctrl_c.py")
    assert process.stdout is not None
    assert process.stdout.readline() == "press Ctrl-C\n"
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert err == ""
    assert out == [
        "worker 0 cleans up",
        "worker 1 cleans up",
        "worker 2 cleans up",
        "interrupted, and all workers have ended",
    ]


def test_http_get() -> None:
    out, err = finish(start("http_get.py"))
    assert err == ""
    assert out == [
        "HTTP/1.0 200 OK, hello from /by-hand",
        "HTTP/1.0 200 OK, hello from /with-TcpStream",
    ]


def test_job_set(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "one.py").write_text("1\n")
    (tmp_path / "not_python.txt").write_text("\n" * 100)
    for n in range(2, 7):
        (tmp_path / "deep" / "deeper" / f"{n}.py").write_text("x\n" * n)
    out, err = finish(start("job_set.py", str(tmp_path)))
    assert err == ""
    assert out == [f"{n:6} lines  {n}.py" for n in (6, 5, 4, 3, 2)]


def test_workers() -> None:
    port = free_port()
    process = start("workers.py", str(port))
    assert process.stdout is not None

    def started() -> int:
        line = process.stdout.readline()
        found = re.fullmatch(rf"worker (\d+) serves port {port}\n", line)
        assert found is not None, line
        return int(found[1])

    def answering() -> int:
        with connect(port) as conn:
            answer = b"".join(iter(lambda: conn.recv(100), b""))
        assert answer.startswith(b"hello from process ")
        return int(answer.split()[-1])

    first, second = started(), started()
    seen: set[int] = set()
    while seen != {first, second}:  # the kernel picks one by a hash of the client's port
        seen.add(answering())
    os.kill(first, signal.SIGKILL)
    assert process.stdout.readline() == f"worker {first} has died, status -9\n"
    third = started()
    while third not in seen:
        seen.add(answering())
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert out == ["the workers end"]
    assert err == ""
    for worker in (second, third):
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


@pytest.mark.skipif(find_spec("distributed") is None, reason="needs the extra dask")
def test_cluster() -> None:
    out, err = finish(start("cluster.py", warnings="ignore"))  # Dask has some of its own
    assert err == ""
    assert re.fullmatch(r"the main thread counts meanwhile: [1-9]\d* turns", out[0])
    assert out[1:] == [
        "primes below 100000: 9592",
        "computed by 2 processes, none of them this one",
    ]


def test_demo() -> None:
    out, err = finish(start("demo.py"))
    assert err == ""
    assert out[-1] == "That is trale_py."


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program")
def test_tls_echo() -> None:
    out, err = finish(start("tls_echo.py"))
    assert err == ""
    assert out == ["client: TLSv1.3, b'hello'"]


def test_https_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trustme = pytest.importorskip("trustme")
    pytest.importorskip("h11")
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def serve(listener: tls.TlsListener) -> None:
        async with await listener.accept() as stream:
            request = await stream.read_until(b"\r\n\r\n")
            assert request.startswith(b"GET /page HTTP/1.1\r\n")
            await stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            await stream.shutdown()

    with tls.TlsListener(TcpListener.bind("localhost:0"), context) as listener:
        server = spawn(serve(listener))
        out, err = finish(start("https_get.py", f"https://localhost:{listener.local_addr[1]}/page"))
        server.join(30)
    assert err == ""
    assert out == ["200 from localhost by TLSv1.3", "5 bytes"]


def test_run_many() -> None:
    out, err = finish(start("run_many.py"))
    assert err == ""
    assert out[7] == "program 7: killed after 1 s"
    del out[7]
    assert out == [f"program {n}: exit status {n % 3}" for n in range(10) if n != 7]


def test_mkdir_and_read_file(tmp_path: Path) -> None:
    for line in (f"made {tmp_path}/new", f"{tmp_path}/new is there already"):
        assert finish(start("mkdir.py", f"{tmp_path}/new")) == ([line], "")
    (tmp_path / "file").write_bytes(b"one\ntwo")
    out, err = finish(start("read_file.py", f"{tmp_path}/file"))
    assert ([line.strip() for line in out], err) == (["1 one", "2 two"], "")


def test_cron() -> None:
    out, err = finish(start("cron.py", "1"))
    assert (len(out), err) == (1, "")
    assert out[0].endswith(" on time")


def test_run_main() -> None:
    lines, err = finish(start("run_main.py"))
    assert err == ""
    assert sorted(lines) == sorted(
        ["the signal was heard", *(f"worker {n} has ended" for n in range(4)), "sum of squares: 14"]
    )


def test_download() -> None:
    out, _ = finish(start("download.py"))
    assert out[-2].startswith("997 pages, 3 failures")
    assert out[-1] == "/999: no such page"


def test_chat() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / "chat.py"), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running.append(process)
    with connect(port) as one, one.makefile("rwb", 0) as first:
        with connect(port) as two, two.makefile("rwb", 0) as second:
            assert first.readline().endswith(b" has come\n")
            second.write(b"hello\n")
            assert first.readline().endswith(b": hello\n")
            assert process.stdin is not None
            process.stdin.write("good evening\n")
            process.stdin.flush()
            assert first.readline() == second.readline() == b"operator: good evening\n"
        assert first.readline().endswith(b" has gone\n")
        process.stdin.write("\n")
        process.stdin.flush()
        assert first.readline() == b""
    out, err = finish(process)
    assert (out, err) == ([f"serving ('127.0.0.1', {port})"], "")


def test_service() -> None:
    process = start("service.py")
    assert process.stdout is not None
    port = int(process.stdout.readline().split()[-1])
    with connect(port) as sock, sock.makefile("rwb", 0) as client:
        client.write(b"3\n")
        assert client.readline() == b"3\n"
        process.send_signal(signal.SIGTERM)
        assert client.read() == b"2\n1\n"
    out, err = finish(process)
    assert (out, err) == (["stopping: SIGTERM", "ended, 3 ticks"], "")


def test_unix_chat() -> None:
    out, err = finish(start("unix_chat.py"))
    assert err == ""
    user = f"(user {os.getuid()})"
    assert out == [f"Bob reads Ada {user}: hello", f"Ada reads Bob {user}: good day"]


def test_tail_f() -> None:
    out, err = finish(start("tail_f.py"))
    assert err == ""
    assert out == ["line 0", "line 1", "line 2"]
