"""TLS over any byte stream, by the ``ssl`` module's engine. See ssl(7), RFC 8446.

==========================  ==================================================================
``connect(addr)``           a TCP connection with TLS on it, its certificate checked
``start_tls(stream)``       TLS on a stream that is there already, in either role
``TlsListener(listener)``   accepts streams from a listener; each does its own handshake
``TlsStream``               what all of them give: a byte stream, encrypted
==========================  ==================================================================
"""

from .connect import connect, start_tls
from .listener import TlsListener
from .stream import TlsStream

__all__ = ["TlsListener", "TlsStream", "connect", "start_tls"]


def __dir__() -> list[str]:
    return sorted(__all__)
