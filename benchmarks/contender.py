"""One contender at one piece of work, in a process of its own; see harness.py.

    python benchmarks/contender.py PEER WORK [ARGS, as a JSON list]

Prints one line of JSON: a server the port it listens on, and it serves until it is killed;
other work its figures. {"missing": why} if the peer is not installed or cannot do the work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import peers
import work


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def spin(_: Callable[[], Any]) -> None:
    """A main thread with other things to do, all of them in plain Python."""
    n = 0
    while True:
        n = (n * 3 + 1) % 1_000_003


def serve(peer: Any, protocol: str, main: str = "idle") -> None:
    port, join = getattr(peer, protocol)()
    say(port=port)
    spin(join) if main == "busy" else join()


def run(name: str, what: str, args: list[Any]) -> None:
    try:
        peer = peers.make(name)
        if what == "serve":
            serve(peer, *args)
        else:
            say(**getattr(work, what)(peer, *args))
    except ModuleNotFoundError as error:
        say(missing=f"{error.name} is not installed")
    except peers.NotAvailable as error:
        say(missing=f"{error} is not available")


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]) if sys.argv[3:] else [])
