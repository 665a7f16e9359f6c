"""A set of jobs like Tokio's JoinSet: put work in while it runs, take results as they come.

Run:  python examples/job_set.py trale_py
See:  the five longest Python files in there (left out: of trale_py): ... lines  runtime.py
"""

import sys
from collections import deque
from pathlib import Path

import trale_py
from trale_py import Event, JoinHandle, TaskGroup, block_on, spawn_blocking


class JobSet:
    """Tasks of a group, to be iterated over in the order of their ends."""

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self.running = 0
        self.ended: deque[JoinHandle] = deque()
        self.news = Event()

    def spawn(self, coro) -> None:
        self.running += 1
        self.group.spawn(coro).add_done_callback(self._end)

    def _end(self, handle: JoinHandle) -> None:  # on the executor's thread, like all of this
        self.ended.append(handle)
        self.news.set()

    async def __aiter__(self):
        while self.running:
            await self.news.wait()
            self.news = Event()
            while self.ended:
                self.running -= 1
                yield self.ended.popleft().result()


async def look(path: Path, jobs: JobSet) -> tuple[int, Path]:
    if path.is_dir():
        for entry in await spawn_blocking(lambda: list(path.iterdir())):
            jobs.spawn(look(entry, jobs))  # more work, found by the work
        return 0, path
    text = await spawn_blocking(path.read_bytes) if path.suffix == ".py" else b""
    return text.count(b"\n"), path


async def longest(root: Path) -> list[tuple[int, Path]]:
    async with TaskGroup() as group:
        jobs = JobSet(group)
        jobs.spawn(look(root, jobs))
        return sorted([found async for found in jobs], reverse=True)[:5]


root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(trale_py.__file__).parent
for lines, path in block_on(longest(root)):
    print(f"{lines:6} lines  {path.name}")
