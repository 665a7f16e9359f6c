"""TlsListener: accepts connections on which the client is to begin with TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

from ..base.closeable import Closing
from ..base.durations import Duration, to_ns
from ..streams.byte_stream import ByteStream
from .engine import TlsEngine
from .stream import TlsStream


class Listener(Protocol):
    """What accepts byte streams: a TcpListener, a UnixListener."""

    closed: Any

    def accept(self) -> Coroutine[Any, Any, ByteStream]:
        """Wait for a connection."""

    def close(self) -> None:
        """Accept nothing more."""

    def __aiter__(self) -> AsyncIterator[ByteStream]:
        """Accept for ever."""


class TlsListener(Closing):
    """The server's side of TLS on the streams that ``listener`` accepts; it belongs to this object.

    ``accept`` returns as soon as there is a connection. Its handshake is part of its first
    operation, or of ``do_handshake()``, in the task that serves it: a client that is silent holds
    up no other. It may take ``handshake_timeout`` seconds. ::

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain("server.pem")
        async with tls.TlsListener(TcpListener.bind("0.0.0.0:8443"), context) as listener:
            async for stream in listener:
                spawn(serve(stream))
    """

    def __init__(
        self,
        listener: Listener,
        context: ssl.SSLContext,
        *,
        handshake_timeout: Duration = 60,
        suppress_ragged_eofs: bool = False,
    ) -> None:
        if not hasattr(listener, "accept"):
            raise TypeError(f"listener must have accept(), as a TcpListener; {listener!r} has not")
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"context must be an ssl.SSLContext, not {context!r}")
        if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError(
                "context must be a server's, as ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)"
            )
        to_ns(handshake_timeout, "handshake_timeout")
        self._listener = listener
        self._context = context
        self._handshake_timeout = handshake_timeout
        self._suppress_ragged_eofs = suppress_ragged_eofs

    @property
    def listener(self) -> Any:
        """The listener underneath."""
        return self._listener

    @property
    def local_addr(self) -> Any:
        """The address of the listener underneath."""
        return self.listener.local_addr

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return bool(self._listener.closed)

    async def accept(self) -> TlsStream:
        """Wait for a connection; not for its handshake. Cancelled, it has taken none.

        Raises what the accept() of the listener underneath does.
        """
        return self._wrap(await self._listener.accept())

    async def __aiter__(self) -> AsyncIterator[TlsStream]:
        """Accept for ever, as the listener underneath does."""
        async for transport in self._listener:
            yield self._wrap(transport)

    def close(self) -> None:
        """Accept nothing more; what was accepted goes on. Never waits."""
        self._listener.close()

    def _wrap(self, transport: ByteStream) -> TlsStream:
        return TlsStream(
            transport,
            TlsEngine(self._context, True, None, None),
            handshake_timeout=self._handshake_timeout,
            suppress_ragged_eofs=self._suppress_ragged_eofs,
        )

    def __repr__(self) -> str:
        return f"<TlsListener over {self._listener!r}>"
