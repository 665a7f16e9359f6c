"""Making TLS streams: connect, and start_tls on what is connected already."""

from __future__ import annotations

import ssl
from collections.abc import Coroutine
from typing import Any

from ..base.durations import Duration, to_ns
from ..jobs.job import spawn_blocking
from ..net.address import Address, to_connect
from ..net.tcp import TcpStream
from ..streams.byte_stream import ByteStream
from .engine import TlsEngine
from .stream import TlsStream

_default: ssl.SSLContext | None = None


def connect(
    addr: Address,
    *,
    context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
    timeout: Duration | None = None,
    handshake_timeout: Duration = 60,
    suppress_ragged_eofs: bool = False,
) -> Coroutine[Any, Any, TlsStream]:
    """Wait for a TCP connection to ``addr`` and for the TLS handshake on it.

    ``context`` is ``ssl.create_default_context()`` if not given: the system's certificates, and the
    server must have one for ``server_hostname``, which is the host in ``addr`` if not given.
    ``timeout`` is for the connection, ``handshake_timeout`` for the handshake, in seconds.
    ``session`` is the one of an earlier connection. Cancelled, it leaves no connection.

    As TcpStream.connect, and ssl.SSLError (SSLCertVerificationError, ...). ::

        stream = await tls.connect("www.python.org:443")
    """
    host = to_connect(addr).host
    _check_context(context)
    to_ns(handshake_timeout, "handshake_timeout")
    if timeout is not None:
        to_ns(timeout, "timeout")
    return _connect(
        addr,
        timeout,
        context,
        host if server_hostname is None else server_hostname,
        session,
        handshake_timeout,
        suppress_ragged_eofs,
    )


async def _connect(
    addr: Address,
    timeout: Duration | None,
    context: ssl.SSLContext | None,
    server_hostname: str,
    session: ssl.SSLSession | None,
    handshake_timeout: Duration,
    suppress_ragged_eofs: bool,
) -> TlsStream:
    transport = await TcpStream.connect(addr, timeout=timeout)
    try:
        return await start_tls(
            transport,
            context,
            server_hostname=server_hostname,
            session=session,
            handshake_timeout=handshake_timeout,
            suppress_ragged_eofs=suppress_ragged_eofs,
        )
    except BaseException:
        transport.close()
        raise


def start_tls(
    stream: ByteStream,
    context: ssl.SSLContext | None = None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
    handshake_timeout: Duration = 60,
    suppress_ragged_eofs: bool = False,
) -> Coroutine[Any, Any, TlsStream]:
    """Wait for the TLS handshake on ``stream``, which belongs to the result from then on.

    Any byte stream will do: TCP, a Unix socket, another TlsStream. A client
    (``server_side=False``) uses ``ssl.create_default_context()`` if it is given no ``context``,
    and must name the server. A server needs a context with a certificate. What is left in the
    buffer of ``stream`` is taken for TLS: it is never handed out as if it had been encrypted.

    Cancelled, or after an error, ``stream`` is closed. TimeoutError after ``handshake_timeout``
    seconds; ssl.SSLError (SSLCertVerificationError, ...); ValueError and TypeError for a context
    or a name that cannot be used. ::

        await stream.write_all(b"STARTTLS\\r\\n")
        await stream.read_until(b"\\r\\n")
        secure = await tls.start_tls(stream, server_hostname="mail.example.org")
    """
    if not isinstance(stream, ByteStream):
        raise TypeError(f"stream must be a byte stream, not {stream!r}")
    _check_context(context)
    if server_side and context is None:
        raise TypeError(
            "context must be an ssl.SSLContext with a certificate: a server has no default"
        )
    to_ns(handshake_timeout, "handshake_timeout")
    return _start_tls(
        stream,
        context,
        server_side,
        server_hostname,
        session,
        handshake_timeout,
        suppress_ragged_eofs,
    )


async def _start_tls(
    transport: ByteStream,
    context: ssl.SSLContext | None,
    server_side: bool,
    server_hostname: str | None,
    session: ssl.SSLSession | None,
    handshake_timeout: Duration,
    suppress_ragged_eofs: bool,
) -> TlsStream:
    if context is None:
        context = await _default_context()
    stream = TlsStream(
        transport,
        TlsEngine(context, server_side, server_hostname, session),
        handshake_timeout=handshake_timeout,
        suppress_ragged_eofs=suppress_ragged_eofs,
    )
    await stream.do_handshake()
    return stream


async def _default_context() -> ssl.SSLContext:
    """One for all connections: the system's certificates are some hundred kilobytes to read."""
    global _default
    if _default is None:
        _default = await spawn_blocking(ssl.create_default_context)
    return _default


def _check_context(context: ssl.SSLContext | None) -> None:
    if context is not None and not isinstance(context, ssl.SSLContext):
        raise TypeError(f"context must be an ssl.SSLContext, not {context!r}")
