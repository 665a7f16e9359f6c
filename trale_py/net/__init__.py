"""Sockets that are awaited: TcpListener, TcpStream, UdpSocket."""

from .lookup import resolve, reverse_lookup
from .tcp import TcpListener, TcpStream
from .udp import UdpSocket

__all__ = ["TcpListener", "TcpStream", "UdpSocket", "resolve", "reverse_lookup"]
