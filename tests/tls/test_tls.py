"""TLS: against itself, against OpenSSL and Python's ssl, and against peers that do it wrong."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import random
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trale_py import (
    BusyResourceError,
    ClosedResourceError,
    Event,
    FdStream,
    IncompleteRead,
    TaskGroup,
    TcpListener,
    TcpStream,
    block_on,
    gather,
    move_on_after,
    spawn,
    spawn_blocking,
    tls,
    yield_now,
)
from trale_py.tls.engine import TlsEngine

trustme = pytest.importorskip("trustme")


class Certificates:
    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.server = self.context(self.authority.issue_cert("localhost", "127.0.0.1"))

    def context(self, certificate: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
def client(certificates: Certificates) -> ssl.SSLContext:
    return certificates.client()


@contextlib.asynccontextmanager
async def served(context: ssl.SSLContext, serve: Any, **options: Any) -> AsyncIterator[Any]:
    """The address of a server that hands each connection to ``serve``."""
    listener = tls.TlsListener(TcpListener.bind("127.0.0.1:0"), context, **options)

    async def accept(group: TaskGroup) -> None:
        with contextlib.suppress(ClosedResourceError):
            async for stream in listener:
                group.spawn(handle(stream))

    async def handle(stream: tls.TlsStream) -> None:
        async with stream:
            await serve(stream)

    async with TaskGroup() as group, listener:
        group.spawn(accept(group))
        yield listener.local_addr
        group.cancel_scope.cancel()


async def echo(stream: Any) -> None:
    with contextlib.suppress(OSError):
        while data := await stream.read():
            await stream.write_all(data)
        await stream.shutdown()


async def pair(
    certificates: Certificates, client: ssl.SSLContext, **options: Any
) -> tuple[tls.TlsStream, tls.TlsStream]:
    """Both ends of a connection, after the handshake: the client's and the server's."""
    with TcpListener.bind("127.0.0.1:0") as listener:
        connecting = spawn(TcpStream.connect(listener.local_addr))
        there = await listener.accept()
        here = await connecting
    ours, theirs = await gather(
        tls.start_tls(here, client, server_hostname="localhost", **options),
        tls.start_tls(there, certificates.server, server_side=True),
    )
    return ours, theirs


def test_both_ends_read_what_the_other_writes(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with (
            served(certificates.server, echo) as address,
            await tls.connect(address, context=client, server_hostname="localhost") as stream,
        ):
            await stream.write_all([b"one\n", b"", bytearray(b"two\n")])
            assert await stream.read_exact(3) == b"one"
            assert await stream.read_until(b"\n") == b"\n"
            assert await stream.peek(2) == b"tw"
            assert await stream.read() == b"two\n"
            into = bytearray(3)
            await stream.write_all(b"abc")
            assert await stream.readinto(into) == 3
            assert into == b"abc"
            await stream.write_all(b"x\ny")
            await stream.shutdown()
            assert [line async for line in stream.lines()] == [b"x", b"y"]
            assert await stream.read() == b""

    block_on(main())


def test_what_is_agreed_can_be_asked(certificates: Certificates) -> None:
    server = certificates.context(certificates.authority.issue_cert("localhost"))
    client = certificates.client()
    server.set_alpn_protocols(["h2", "http/1.1"])
    client.set_alpn_protocols(["http/1.1"])

    async def main() -> None:
        async with served(server, echo) as address:
            stream = await tls.connect(address, context=client, server_hostname="localhost")
            async with stream:
                assert stream.selected_alpn_protocol() == "http/1.1"
                assert stream.version() == "TLSv1.3"
                assert stream.cipher() is not None
                assert ("DNS", "localhost") in stream.getpeercert()["subjectAltName"]
                assert isinstance(stream.getpeercert(binary_form=True), bytes)
                assert stream.server_hostname == "localhost"
                assert stream.context is client
                assert isinstance(stream.transport, TcpStream)
                assert "TLSv1.3 over <TcpStream" in repr(stream)
            assert "closed" in repr(stream)
            assert stream.closed

    block_on(main())


def test_the_default_context_checks_and_the_host_is_the_one_of_the_address(
    certificates: Certificates,
) -> None:
    async def main() -> None:
        async with served(certificates.server, echo) as address:
            with pytest.raises(ssl.SSLCertVerificationError):
                await tls.connect(address)
            client = certificates.client()
            async with await tls.connect(address, context=client) as stream:
                assert stream.server_hostname == "127.0.0.1"

    block_on(main())


def test_a_session_is_taken_up_again(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def main() -> None:
        async with served(certificates.server, echo) as address:
            connect = partial(tls.connect, address, context=client, server_hostname="localhost")
            async with await connect() as stream:
                await stream.write_all(b"x")
                await stream.read()  # the ticket comes with it
                assert not stream.session_reused
                session = stream.session
            async with await connect(session=session) as stream:
                await stream.write_all(b"x")
                assert await stream.read() == b"x"
                assert stream.session_reused

    block_on(main())


def test_the_client_shows_a_certificate(certificates: Certificates) -> None:
    server = certificates.context(certificates.authority.issue_cert("localhost"))
    server.verify_mode = ssl.CERT_REQUIRED
    certificates.authority.configure_trust(server)
    names: list[Any] = []

    async def serve(stream: tls.TlsStream) -> None:
        with contextlib.suppress(ssl.SSLError):
            await stream.do_handshake()
            names.append(stream.getpeercert()["subjectAltName"])
            await stream.write_all(b"welcome")
            await stream.shutdown()

    async def main() -> None:
        async with served(server, serve) as address:
            client = certificates.client()
            certificates.authority.issue_cert("somebody@example.org").configure_cert(client)
            async with await tls.connect(
                address, context=client, server_hostname="localhost"
            ) as stream:
                assert await stream.read() == b"welcome"
            without = certificates.client()
            async with await tls.connect(
                address, context=without, server_hostname="localhost"
            ) as stream:
                # TLS 1.3: it is told after its handshake
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    assert await stream.read() == b"nothing"

    block_on(main())
    assert names == [(("email", "somebody@example.org"),)]


def dates(**of: int) -> datetime:
    return datetime.now(UTC) + timedelta(**of)


@pytest.mark.parametrize(
    ("identities", "options", "says"),
    [
        (["elsewhere.example"], {}, "Hostname mismatch"),
        (["localhost"], {"not_after": dates(days=-1)}, "expired"),
        (["localhost"], {"not_before": dates(days=1)}, "not yet valid"),
        (["127.0.0.2"], {}, "Hostname mismatch"),
        (None, {}, "unable to get local issuer|self-signed|self signed"),
    ],
)
def test_J7_a_bad_certificate_is_refused(
    certificates: Certificates, identities: Any, options: Any, says: str
) -> None:
    if identities is None:  # by an authority that nobody knows
        certificate = trustme.CA().issue_cert("localhost")
    else:
        certificate = certificates.authority.issue_cert(*identities, **options)

    async def main() -> None:
        async with served(certificates.context(certificate), echo) as address:
            with pytest.raises(ssl.SSLCertVerificationError, match=says):
                await tls.connect(
                    address, context=certificates.client(), server_hostname="localhost"
                )

    block_on(main())


@pytest.mark.parametrize("suppress", [False, True])
def test_J1_an_end_without_close_notify(
    certificates: Certificates, client: ssl.SSLContext, suppress: bool
) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client, suppress_ragged_eofs=suppress)
        with ours:
            await theirs.write_all(b"beginning")
            theirs.close()
            assert await ours.read() == b"beginning"
            if suppress:
                assert await ours.read() == b""
            else:
                for _ in range(2):
                    with pytest.raises(ssl.SSLEOFError, match="close_notify"):
                        await ours.read()
                with pytest.raises(ssl.SSLEOFError):
                    await ours.read_exact(5)

    block_on(main())


def test_J1_an_end_in_the_middle_of_a_record(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            theirs._engine.write(memoryview(b"x" * 1000))
            await theirs.transport.write_all(theirs._engine.unsent[:500])
            await theirs.transport.shutdown()
            with pytest.raises(ssl.SSLEOFError):
                await ours.read()

    block_on(main())


def test_J2_shutdown_does_not_wait_for_the_peer(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            await ours.shutdown()
            await ours.shutdown()
            with pytest.raises(BrokenPipeError):
                await ours.write_all(b"more")
            assert await theirs.read() == b""
            assert await theirs.read() == b""

    block_on(main())


def test_J3_half_close(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            await ours.shutdown()
            assert await theirs.read() == b""
            await theirs.write_all(b"the answer")
            await theirs.shutdown()
            assert await ours.read() == b"the answer"
            assert await ours.read() == b""
            with pytest.raises(IncompleteRead):
                await ours.read_exact(1)

    block_on(main())


def test_J3_what_comes_after_close_notify_is_ignored(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            await theirs.shutdown()
            await theirs.transport.write_all(b"EVIL")
            assert await ours.read() == b""
            assert await ours.read() == b""

    block_on(main())


@pytest.mark.parametrize("first", [b"EVIL\r\n", b"\x00" * 2000, b"GET / HTTP/1.1\r\n\r\n"])
def test_J4_plaintext_before_the_handshake_is_never_delivered(
    certificates: Certificates, client: ssl.SSLContext, first: bytes
) -> None:
    async def main() -> None:
        with TcpListener.bind("127.0.0.1:0") as listener:
            here = await TcpStream.connect(listener.local_addr)
            there = await listener.accept()
        await here.write_all(b"STARTTLS\r\n" + first)
        assert await there.read_until(b"\r\n") == b"STARTTLS\r\n"  # the rest is in the buffer
        refused = spawn(tls.start_tls(there, certificates.server, server_side=True))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await tls.start_tls(here, client, server_hostname="localhost")
        with pytest.raises(ssl.SSLError):
            await refused
        assert there.closed
        assert here.closed

    block_on(main())


def test_J4_a_client_that_begins_early(certificates: Certificates, client: ssl.SSLContext) -> None:
    """It need not wait for the answer to its STARTTLS: what it sent is in the buffer."""

    async def main() -> None:
        with TcpListener.bind("127.0.0.1:0") as listener:
            here = await TcpStream.connect(listener.local_addr)
            there = await listener.accept()
        await here.write_all(b"STARTTLS\r\n")
        starting = spawn(tls.start_tls(here, client, server_hostname="localhost"))
        assert await there.read_until(b"\r\n") == b"STARTTLS\r\n"
        await there.peek()
        theirs = await tls.start_tls(there, certificates.server, server_side=True)
        with await starting as ours, theirs:
            await ours.write_all(b"secret")
            assert await theirs.read() == b"secret"

    block_on(main())


def test_J5_renegotiation_is_off(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            assert ours.context.options & ssl.OP_NO_RENEGOTIATION
            assert theirs.context.options & ssl.OP_NO_RENEGOTIATION

    block_on(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_J6_a_client_that_closes_at_once(certificates: Certificates, version: Any) -> None:
    """Of TLS 1.3, tickets for it are still on their way."""
    client = certificates.client()
    client.maximum_version = version
    got: list[bytes] = []
    ended = Event()

    async def serve(stream: tls.TlsStream) -> None:
        got.append(await stream.read())
        got.append(await stream.read())
        ended.set()

    async def main() -> None:
        async with served(certificates.server, serve) as address:
            async with await tls.connect(
                address, context=client, server_hostname="localhost"
            ) as stream:
                await stream.write_all(b"all there is")
                await stream.shutdown()
            await ended.wait()

    block_on(main())
    assert got == [b"all there is", b""]


def test_J8_a_silent_client_holds_up_no_other(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    timed_out = Event()

    async def silent(stream: tls.TlsStream) -> None:
        with pytest.raises(TimeoutError, match=r"within 0\.05 seconds"):
            await stream.read()
        with pytest.raises((TimeoutError, ClosedResourceError)):
            await stream.read()
        timed_out.set()

    async def main() -> None:
        async with served(certificates.server, echo) as address:
            quiet = await TcpStream.connect(address)
            async with (
                quiet,
                await tls.connect(address, context=client, server_hostname="localhost") as stream,
            ):
                await stream.write_all(b"x")
                assert await stream.read() == b"x"
        async with (
            served(certificates.server, silent, handshake_timeout=0.05) as address,
            await TcpStream.connect(address) as quiet,
        ):
            with contextlib.suppress(ConnectionResetError):
                assert await quiet.read() == b""  # it was closed
            await timed_out.wait()

    block_on(main())


def test_J9_garbage(certificates: Certificates) -> None:
    chance = random.Random(9)
    seeds = [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes.fromhex("802e0100020015000000100100800200800600400700c0"),  # SSLv2
        b"\x16\x03\x01\xff\xff" + b"\x01" * 300,  # a record of 64 kB
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
    ]
    prefixes = [*seeds, *(chance.randbytes(chance.randrange(1, 300)) for _ in range(300))]
    failed: list[BaseException] = []
    all_failed = Event()

    async def serve(stream: tls.TlsStream) -> None:
        try:
            await stream.read()
        except OSError as error:
            failed.append(error)
            if len(failed) == len(prefixes):
                all_failed.set()

    async def main() -> None:
        async with served(certificates.server, serve) as address:
            for prefix in prefixes:
                async with await TcpStream.connect(address) as stream:
                    await stream.write_all(prefix)
                    with contextlib.suppress(OSError):
                        await stream.shutdown()
                        while await stream.read():
                            pass
            await all_failed.wait()

    block_on(main())
    assert all(isinstance(error, ssl.SSLError) for error in failed)


def test_J9_garbage_after_the_handshake(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            await theirs.transport.write_all(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            reasons = []
            for call in (ours.read(), ours.read(), ours.write(b"x"), ours.shutdown()):
                with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac|decryption") as caught:
                    await call
                reasons.append((caught.value.library, caught.value.reason))
            assert reasons == [reasons[0]] * 4
            assert reasons[0][0] == "SSL"

    block_on(main())


def test_J9_any_error_of_a_transport_is_raised_again(client: ssl.SSLContext) -> None:
    class Exotic(OSError):
        def __init__(self, *, why: str) -> None:
            super().__init__(why)

    class Transport(FdStream):
        async def write(self, data: Any) -> int:  # type: ignore[override]
            raise Exotic(why="exotic")

    async def main() -> None:
        reader, writer = os.pipe()
        os.close(writer)
        stream = tls.TlsStream(
            Transport.from_fd(reader), TlsEngine(client, False, "localhost", None)
        )
        with stream:
            for call in (stream.read(), stream.write(b"x")):
                with pytest.raises(Exotic, match="exotic"):
                    await call

    block_on(main())


def test_J9_what_came_before_a_fault_is_not_lost_by_a_shutdown(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    """shutdown() decrypts what is there, and may find the fault in it."""

    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            await theirs.write_all(b"x")
            assert await ours.read() == b"x"  # the tickets have come, too
            theirs._engine.write(memoryview(b"before the fault"))
            garbage = b"\x17\x03\x03\x00\x20" + b"x" * 32
            ours._engine.receive(theirs._engine.unsent + garbage)
            with pytest.raises(ssl.SSLError):
                await ours.shutdown()
            assert await ours.read() == b"before the fault"
            with pytest.raises(ssl.SSLError):
                await ours.read()

    block_on(main())


def test_J10_a_cancelled_handshake_closes_the_connection(client: ssl.SSLContext) -> None:
    async def main() -> None:
        with TcpListener.bind("127.0.0.1:0") as listener:
            here = await TcpStream.connect(listener.local_addr)
            async with await listener.accept() as there:
                with move_on_after(0.01) as scope:
                    await tls.start_tls(here, client, server_hostname="localhost")
                assert scope.cancelled_caught
                assert here.closed
                while await there.read():
                    pass

    block_on(main())


def test_J10_a_cancelled_read_has_read_nothing(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        text = bytes(range(256)) * 20

        async def write() -> None:
            for n in range(0, len(text), 7):
                await theirs.write_all(text[n : n + 7])
                await yield_now()
            await theirs.shutdown()

        got, cuts = b"", 0
        with ours, theirs:
            writer = spawn(write())
            while len(got) < len(text):
                with move_on_after(cuts % 5 * 0.00002) as scope:
                    got += await ours.read(3)
                cuts += scope.cancelled_caught
            await writer
        assert got == text
        assert cuts > 0

    block_on(main())


def test_J10_a_write_that_is_cut_off_is_remembered(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            with move_on_after(0.05) as scope:
                while True:
                    await ours.write(b"x" * 100_000)
            assert scope.cancelled_caught
            for _ in range(2):
                with pytest.raises(BrokenPipeError, match="was cut off"):
                    await ours.write(b"x")

    block_on(main())


def test_J11_both_ends_write_and_read_without_pause(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    total = 20_000_000

    async def write(stream: tls.TlsStream) -> None:
        data = bytes(1_000_000)
        for _ in range(total // len(data)):
            await stream.write_all(data)
        await stream.shutdown()

    async def read(stream: tls.TlsStream) -> int:
        size = 0
        while data := await stream.read(1 << 20):
            size += len(data)
        return size

    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            sizes = await gather(write(ours), read(ours), write(theirs), read(theirs))
        assert sizes[1] == sizes[3] == total

    block_on(main())


def test_one_reader_and_one_writer(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with ours, theirs:
            reading = spawn(ours.read())
            await yield_now()
            with pytest.raises(BusyResourceError):
                await ours.read()
            await theirs.write_all(b"x")
            assert await reading == b"x"

    block_on(main())


def test_close_wakes_a_reader(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        with theirs:
            reading = spawn(ours.read())
            await yield_now()
            ours.close()
            ours.close()
            with pytest.raises(ClosedResourceError):
                await reading
            with pytest.raises(ClosedResourceError):
                await ours.write(b"x")
            with pytest.raises(ClosedResourceError):
                await ours.read()

    block_on(main())


def test_reader_and_writer_both_begin_with_the_handshake(
    certificates: Certificates, client: ssl.SSLContext
) -> None:
    async def serve(stream: tls.TlsStream) -> None:
        async with TaskGroup() as group:
            group.spawn(stream.write_all(b"from the server"))
            read = group.spawn(stream.read())
        assert read.result() == b"from the client"

    async def main() -> None:
        async with (
            served(certificates.server, serve) as address,
            await tls.connect(address, context=client, server_hostname="localhost") as stream,
        ):
            await stream.write_all(b"from the client")
            assert await stream.read() == b"from the server"

    block_on(main())


def test_tls_in_tls(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = await pair(certificates, client)
        inner, outer = await gather(
            tls.start_tls(ours, client, server_hostname="localhost"),
            tls.start_tls(theirs, certificates.server, server_side=True),
        )
        with inner, outer:
            await inner.write_all(b"x" * 200_000)
            assert await outer.read_exact(200_000) == b"x" * 200_000

    block_on(main())


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: tls.connect("127.0.0.1:1", context="x"), TypeError, "context must be"),
        (lambda: tls.connect("localhost"), ValueError, "localhost"),
        (lambda: tls.connect("a:1", handshake_timeout=-1), ValueError, "handshake_timeout"),
        (lambda: tls.connect("a:1", handshake_timeout=math.nan), ValueError, "handshake_timeout"),
        (lambda: tls.start_tls("x"), TypeError, "stream must be a byte stream"),
        (lambda: tls.TlsListener("x", None), TypeError, "listener must have accept"),
        (lambda: tls.TlsListener(TcpListener, "x"), TypeError, "context must be"),
        (
            lambda: tls.TlsListener(TcpListener, ssl.create_default_context()),
            ValueError,
            "context must be a server's",
        ),
    ],
)
def test_bad_arguments_are_refused_at_the_call(call: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def test_ssl_is_not_imported_before_it_is_used() -> None:
    program = "import trale_py, sys; assert 'ssl' not in sys.modules; trale_py.tls; import ssl"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# -- other implementations ------------------------------------------------------------------


@pytest.fixture
def files(certificates: Certificates, tmp_path: Path) -> dict[str, str]:
    certificate = certificates.authority.issue_cert("localhost")
    pem, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    certificates.authority.cert_pem.write_to_path(str(ca))
    return {"pem": str(pem), "ca": str(ca)}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program")
def test_J5_openssl_s_client_updates_its_keys(
    certificates: Certificates, files: dict[str, str]
) -> None:
    """K asks for new keys in both directions, k in its own."""

    async def serve(stream: tls.TlsStream) -> None:
        async for line in stream.lines():
            await stream.write_all(b"<" + line + b">\n")
            if line == b"last":
                await stream.shutdown()

    def talk(port: int) -> None:
        command = ["openssl", "s_client", "-CAfile", files["ca"], "-verify_return_error"]
        command += ["-verify_hostname", "localhost", "-connect", f"127.0.0.1:{port}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            for say in (b"first", b"K", b"second", b"k", b"last"):
                program.stdin.write(say + b"\n")
                program.stdin.flush()
                answer = b"KEYUPDATE" if say in b"Kk" else b"<" + say + b">"
                while answer not in program.stdout.readline():
                    assert program.poll() is None
            program.stdin.close()

    async def main() -> None:
        async with served(certificates.server, serve) as address:
            await spawn_blocking(talk, address[1])

    block_on(main())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl program")
def test_openssl_s_server(certificates: Certificates, files: dict[str, str]) -> None:
    command = ["openssl", "s_server", "-cert", files["pem"], "-accept", "127.0.0.1:0"]
    command += ["-naccept", "1", "-rev"]
    client = certificates.client()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith("ACCEPT"):
                port = int(line.rsplit(":", 1)[1])
                break

        async def main() -> None:
            async with await tls.connect(
                ("127.0.0.1", port), context=client, server_hostname="localhost"
            ) as stream:
                await stream.write_all(b"abc\n")
                assert await stream.read_until(b"\n") == b"cba\n"
                await stream.shutdown()

        try:
            block_on(main())
        finally:
            server.kill()


def test_http_client(certificates: Certificates, client: ssl.SSLContext) -> None:
    async def serve(stream: tls.TlsStream) -> None:
        await stream.read_until(b"\r\n\r\n")
        await stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await stream.shutdown()

    async def main() -> bytes:
        async with served(certificates.server, serve) as address:

            def get() -> bytes:
                connection = http.client.HTTPSConnection(
                    "localhost", address[1], context=client, timeout=60
                )
                with contextlib.closing(connection):
                    connection.request("GET", "/")
                    return connection.getresponse().read()

            return await spawn_blocking(get)

    assert block_on(main()) == b"hello"


@pytest.mark.slow
def test_J12_connections_take_no_memory(certificates: Certificates, client: ssl.SSLContext) -> None:
    resource = pytest.importorskip("resource")

    async def main(count: int) -> None:
        async with served(certificates.server, echo) as address:
            for _ in range(count):
                async with await tls.connect(
                    address, context=client, server_hostname="localhost"
                ) as stream:
                    await stream.write_all(b"x")
                    assert await stream.read() == b"x"

    block_on(main(100))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    block_on(main(500))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4_000
