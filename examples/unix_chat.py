"""A chat over a Unix socket: each line goes to all others. The kernel tells the server who is who.

Run:  python examples/unix_chat.py
See:  two guests, and what each of them reads
"""

import tempfile
from pathlib import Path

from trale_py import TaskGroup, UnixListener, UnixStream, block_on


async def serve(stream: UnixStream, room: dict[UnixStream, str]) -> None:
    async with stream:
        name = (await stream.read_until(b"\n")).decode().strip()
        room[stream] = f"{name} (user {stream.peer_credentials.uid})"
        await stream.write_all(b"welcome\n")
        async for line in stream.lines():
            for other in room:
                if other is not stream:
                    await other.write_all(f"{room[stream]}: ".encode() + line + b"\n")
        del room[stream]


async def listen(listener: UnixListener, group: TaskGroup) -> None:
    room: dict[UnixStream, str] = {}
    async for stream in listener:
        group.spawn(serve(stream, room))


async def enter(path: Path, name: str) -> UnixStream:
    stream = await UnixStream.connect(path)
    await stream.write_all(f"{name}\n".encode())
    assert await stream.read_until(b"\n") == b"welcome\n"
    return stream


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chat.sock")
        async with UnixListener.bind(path) as listener, TaskGroup() as group:
            group.spawn(listen(listener, group))
            async with await enter(path, "Ada") as ada, await enter(path, "Bob") as bob:
                await ada.write_all(b"hello\n")
                print("Bob reads", (await bob.read_until(b"\n")).decode().strip())
                await bob.write_all(b"good day\n")
                print("Ada reads", (await ada.read_until(b"\n")).decode().strip())
            group.cancel_scope.cancel()


block_on(main())
