"""TlsEngine: one end of a TLS connection that does no input and no output.

Bytes that came from the peer go in by ``receive``; bytes for the peer come out of ``unsent``.
What a call needs before it can go on is its result, so that this file waits for nothing.
"""

from __future__ import annotations

import ssl

_RECORD = 16384  # the most that one record carries; RFC 8446, 5.1


class TlsEngine:
    """OpenSSL between two buffers of memory.

    Renegotiation (TLS 1.2) is switched off in the context: a peer could ask for it for ever,
    and a write would need to wait for a read. So after the handshake a write never needs input.
    """

    __slots__ = ("_incoming", "_outgoing", "_peer_ended", "_ssl", "failure", "unsent")

    def __init__(
        self,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> None:
        context.options |= ssl.OP_NO_RENEGOTIATION
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_hostname, session
        )
        self.failure: OSError | None = None  # ssl.SSLError is one, too; nothing goes on after it
        self._peer_ended = False  # its close_notify was read
        self.unsent: bytes = b""  # for the peer; what is sent must be taken off its beginning

    @property
    def ssl(self) -> ssl.SSLObject:
        return self._ssl

    def receive(self, data: bytes) -> None:
        """Bytes of the peer's have come."""
        self._incoming.write(data)

    def handshake(self) -> bool:
        """Go on with the handshake. False: it needs more of the peer's bytes."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._collect()
        return True

    def read(self, n: int) -> bytes | None:
        """Decrypt 1 to ``n`` bytes; ``b""`` after close_notify; None: it needs more input."""
        if self._peer_ended:
            return b""
        if not (self._incoming.pending or self._ssl.pending()):
            return None  # as SSLWantReadError would say, and cheaper
        try:
            data = self._ssl.read(n)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            data = b""
        except ssl.SSLError as error:
            self.failure = error
            raise
        self._peer_ended = not data
        return data

    def write(self, data: memoryview) -> int:
        """Encrypt the beginning of ``data``; returns how much of it."""
        try:
            written = self._ssl.write(data)
        except ssl.SSLError as error:
            self.failure = error
            raise
        self._collect()
        return written

    def read_all(self, into: bytearray) -> None:
        """Decrypt all that is there. ssl.SSLError: what came before the fault is in ``into``."""
        while data := self.read(_RECORD):
            into += data

    def close_notify(self) -> None:
        """Say that nothing more will be written. The peer's answer is not waited for.

        First ``read_all``: after it has said so, OpenSSL looks for the peer's answer, and takes
        other data for an error.
        """
        try:
            self._ssl.unwrap()
        except ssl.SSLWantReadError:
            pass
        finally:
            self._collect()

    def _collect(self) -> None:
        if self._outgoing.pending:
            self.unsent += self._outgoing.read()
