"""Sockets that are awaited: TcpListener, TcpStream, UdpSocket."""

from .tcp import TcpListener, TcpStream
from .udp import UdpSocket

__all__ = ["TcpListener", "TcpStream", "UdpSocket"]
