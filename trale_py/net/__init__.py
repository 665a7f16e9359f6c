"""Sockets that are awaited: TCP, UDP, Unix, and any other."""

from .ancillary import Credentials
from .any_socket import Socket
from .lookup import resolve, reverse_lookup
from .tcp import TcpListener, TcpStream
from .udp import UdpSocket
from .unix import UnixListener, UnixStream, socketpair
from .unix_datagram import UnixDatagram

__all__ = [
    "Credentials",
    "Socket",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "resolve",
    "reverse_lookup",
    "socketpair",
]
