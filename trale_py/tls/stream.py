"""TlsStream: a byte stream over another one, encrypted.

Which task reads and which writes
    The task that reads takes in what the peer sends, the task that writes sends what the
    engine has for the peer. Neither does the other's work once the handshake is over, so two
    ends that both write without pause, and both read, never wait for each other. What a read gives
    rise to (the answer to a key update) goes out before the next write, as RFC 8446, 4.6.3, has it.

What a cut-off leaves
    A cancelled read has read nothing. A cancelled handshake closes the connection. What is
    encrypted must be sent: a write that is cut off after that leaves the peer with a part, and
    every later write raises BrokenPipeError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
from typing import Any, Literal, overload

from ..base.durations import Duration, to_ns
from ..base.errors import ClosedResourceError
from ..scopes.cancel_scope import move_on_after
from ..streams.byte_stream import CHUNK, ByteStream
from ..sync.mutex import Mutex
from .engine import TlsEngine

# What is encrypted at once: more would only be kept until there is room for it.
_LARGEST_WRITE = 1 << 18
# How long an alert for the peer, which explains why there is no connection, may wait for room.
_ALERT_SECONDS = 1.0


class TlsStream(ByteStream):
    """TLS on ``transport``, a byte stream that belongs to it from now on.

    Made by ``tls.connect``, ``tls.start_tls`` and ``TlsListener.accept``. The handshake is part of
    the first operation, if ``do_handshake`` was not awaited before. ::

        async with await tls.connect("www.python.org:443") as stream:
            await stream.write_all(b"HEAD / HTTP/1.0\\r\\nHost: www.python.org\\r\\n\\r\\n")
            print(await stream.read_until(b"\\r\\n"))

    Reads and writes raise ssl.SSLError besides OSError. If the peer closes the connection without
    close_notify, a read raises ssl.SSLEOFError: an attacker may have cut off the end. With
    ``suppress_ragged_eofs`` it is the end, ``b""``.
    """

    def __init__(
        self,
        transport: ByteStream,
        engine: TlsEngine,
        *,
        handshake_timeout: Duration = 60,
        suppress_ragged_eofs: bool = False,
    ) -> None:
        super().__init__()
        to_ns(handshake_timeout, "handshake_timeout")
        self._transport = transport
        self._engine = engine
        self._timeout = handshake_timeout
        self._suppress_ragged_eofs = suppress_ragged_eofs
        self._handshaking: Mutex[None] | None = Mutex()  # None: it is done
        self._sending: Mutex[None] = Mutex()  # one at a time, so that records stay in their order
        self._ended = False  # close_notify was sent
        self._cut_off = False  # a write was, after it was encrypted

    @property
    def transport(self) -> ByteStream:
        """The stream that carries the encrypted bytes."""
        return self._transport

    @property
    def context(self) -> ssl.SSLContext:
        """The context it was made with."""
        return self._engine.ssl.context

    @property
    def server_hostname(self) -> str | None:
        """The name that the server's certificate must have; None on the server's side."""
        return self._engine.ssl.server_hostname

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session, for a later connection to the same server (``session=``).

        Of TLS 1.3 it comes after the handshake, with the first bytes that are read.
        """
        return self._engine.ssl.session

    @property
    def session_reused(self) -> bool | None:
        """Whether the server has taken up the session that was given."""
        return self._engine.ssl.session_reused

    def version(self) -> str | None:
        """The version of the protocol, as "TLSv1.3"; None before the handshake."""
        return self._engine.ssl.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """Name, version and secret bits of the cipher; None before the handshake."""
        return self._engine.ssl.cipher()

    def selected_alpn_protocol(self) -> str | None:
        """The protocol that both ends have agreed on, if the context has any. RFC 7301."""
        return self._engine.ssl.selected_alpn_protocol()

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...

    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate, as ``ssl.SSLSocket.getpeercert`` gives it.

        ValueError before the handshake.
        """
        return self._engine.ssl.getpeercert(binary_form)

    async def do_handshake(self) -> None:
        """Wait until both ends have agreed. Does nothing if they have.

        TimeoutError after ``handshake_timeout`` seconds, ssl.SSLError (SSLCertVerificationError,
        ...) if they cannot agree. After an error, and if it is cancelled, the connection is closed.
        """
        handshaking = self._handshaking
        if handshaking is None:
            return
        async with handshaking:
            if self._handshaking is None:
                return
            self._check_open()
            self._check_whole()
            try:
                await self._handshake_in_time()
            except BaseException as error:
                if isinstance(error, OSError):
                    self._engine.failure = error
                self._transport.close()
                raise
            self._handshaking = None

    async def _handshake_in_time(self) -> None:
        with move_on_after(self._timeout) as scope:
            await self._handshake()
        if scope.cancelled_caught:
            raise TimeoutError(f"no TLS handshake within {self._timeout} seconds")

    async def _handshake(self) -> None:
        engine = self._engine
        try:
            while not engine.handshake():
                await self._flush()
                if not await self._receive():
                    raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF during the TLS handshake")
        except ssl.SSLError:
            with contextlib.suppress(OSError), move_on_after(_ALERT_SECONDS):
                await self._flush()
            raise
        await self._flush()

    # -- reading and writing, for ByteStream -----------------------------------------------------

    async def _read_some(self, n: int) -> bytes:
        if self._handshaking is not None:
            await self.do_handshake()
        engine = self._engine
        self._check_whole()
        while (data := engine.read(n)) is None:
            if not await self._receive():
                return self._ragged_end()
        return data

    def _ragged_end(self) -> bytes:
        """The connection has ended without close_notify."""
        if self._suppress_ragged_eofs:
            return b""
        raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer closed without close_notify")

    async def _write_some(self, data: memoryview) -> int:
        if self._handshaking is not None:
            await self.do_handshake()
        engine = self._engine
        self._check_whole()
        if self._ended or self._cut_off:
            why = ": an earlier write was cut off" if self._cut_off else ""
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE) + why)
        if engine.unsent:
            await self._flush()  # cut off here, nothing of this write is encrypted yet
        written = engine.write(data[:_LARGEST_WRITE])
        try:
            await self._flush()
        except BaseException:
            self._cut_off = True
            raise
        return written

    async def _end_writing(self) -> None:
        if self._handshaking is not None:
            await self.do_handshake()
        self._check_whole()
        if not self._ended:
            self._ended = True
            self._engine.read_all(self._io.buffer)
            self._engine.close_notify()
        with contextlib.suppress(ConnectionError):  # the peer has gone: it needs no goodbye
            await self._flush()

    async def _receive(self) -> bool:
        """Wait for bytes of the peer's. False: there will be none."""
        data = await self._transport.read(CHUNK)
        self._engine.receive(data)
        return bool(data)

    async def _flush(self) -> None:
        """Send what the engine has for the peer. Cut off, the next one goes on from there."""
        engine = self._engine
        async with self._sending:
            while engine.unsent:
                sent = await self._transport.write(engine.unsent)
                engine.unsent = engine.unsent[sent:]

    # -- both ------------------------------------------------------------------------------------

    def _check_whole(self) -> None:
        if self._engine.failure is not None:
            # Each raise adds frames to the traceback: start from none.
            raise BaseException.with_traceback(self._engine.failure, None)

    def _check_open(self) -> None:
        if self._io.closed:
            raise ClosedResourceError(f"{self!r} is closed")

    @property
    def closed(self) -> bool:
        """Whether it was closed by this end."""
        return self._io.closed

    def close(self) -> None:
        """Close the connection, without close_notify (see ``shutdown``); never waits.

        Tasks that wait on it get ClosedResourceError. Closing again does nothing.
        """
        self._io.closed = True
        self._transport.close()

    def __repr__(self) -> str:
        state = "closed" if self._io.closed else self.version() or "before the handshake"
        return f"<TlsStream {state} over {self._transport!r}>"
