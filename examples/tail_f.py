"""Follow a file as it grows, as `tail -f` does. No polling: the kernel tells of each change.

Run:  python examples/tail_f.py README.md
See:  what is appended to the file from now on; without a name, three lines that this program
      writes to a file of its own
"""

import sys
import tempfile
from pathlib import Path

from trale_py import Event, block_on, fs, gather, sleep


async def follow(path: str, watching: Event, count: float = float("inf")) -> None:
    async with fs.watch(path) as events, fs.File.open(path) as file:
        await file.seek(0, 2)
        watching.set()
        async for event in events:
            if event.kind in ("deleted", "moved", "ignored"):
                return
            while data := await file.read():
                print(data.decode(), end="", flush=True)
                count -= data.count(b"\n")
            if count <= 0:
                return


async def write(path: str, watching: Event) -> None:
    await watching.wait()
    for n in range(3):
        with Path(path).open("a") as file:
            file.write(f"line {n}\n")
        await sleep(0.1)


async def show() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, watching = Path(folder, "log"), Event()
        path.touch()
        await gather(follow(str(path), watching, count=3), write(str(path), watching))


block_on(follow(sys.argv[1], Event()) if len(sys.argv) > 1 else show())
