"""A chat: each line goes to all others. The operator types in this script.

Run:  python examples/chat.py 5000
      nc 127.0.0.1 5000      (twice or more)
      and type here too; an empty line ends it
See:  serving ('127.0.0.1', 5000)
      and in each nc what the others and the operator say
"""

import sys

from trale_py import TaskGroup, TcpStream, serve
from trale_py.channel import BroadcastReceiver, Lagged, broadcast

said, _ = broadcast(100)  # (by whom, what): a reader that is slower than 100 lines misses some


async def show(stream: TcpStream, lines: BroadcastReceiver) -> None:
    while True:
        try:
            who, line = await lines.recv()
        except Lagged as missed:
            who, line = None, b"(%d lines were missed)" % missed.n
        if who is not stream:
            await stream.write_all(line + b"\n")


async def chat(stream: TcpStream) -> None:
    name = b"%d" % stream.peer_addr[1]
    async with TaskGroup() as group:
        group.spawn(show(stream, said.subscribe()))
        said.send((stream, name + b" has come"))
        async for line in stream.lines(limit=1000):
            said.send((stream, name + b": " + line))
        group.cancel_scope.cancel()
    said.send((stream, name + b" has gone"))


with serve(chat, ("127.0.0.1", int(sys.argv[1])), limit=100) as server:
    print("serving", server.addresses[0], flush=True)
    while line := input():
        said.send((None, b"operator: " + line.encode()))
