"""The contenders. Each does the same work in the words its own users would use.

Those with a loop run it in a background thread, which is how a script has a runtime beside it;
the main thread waits in a join. Servers are methods that return the port and that join; the
other methods are called by work.py, in the main thread. A peer has the methods that make sense
for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PEERS = {
    "trale_py": ("trale", "Trale"),
    "trale_py recv_from": ("trale", "TraleOneByOne"),
    "asyncio": ("loops", "Asyncio"),
    "asyncio Protocol": ("loops", "AsyncioProtocol"),
    "trale_py without aiofastnet": ("loops", "GuestWithoutAiofastnet"),
    "uvloop + aiofastnet": ("loops", "UvloopAiofastnet"),
    "uvloop": ("loops", "Uvloop"),
    "uvloop Protocol": ("loops", "UvloopProtocol"),
    "trio": ("trio", "Trio"),
    "curio": ("curio", "Curio"),
    "anyio": ("anyio", "Anyio"),
    "gevent": ("gevent", "Gevent"),
    "threads": ("threads", "Threads"),
}


class NotAvailable(Exception):
    """The peer has no such thing (yet); the text names it."""


def make(name: str) -> Any:
    module, kind = PEERS[name]
    return getattr(import_module(f"peers.{module}"), kind)()
