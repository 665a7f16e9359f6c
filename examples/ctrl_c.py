"""Ctrl-C in a script: the tasks are cancelled, clean up, and then it is raised.

Run:  python examples/ctrl_c.py         (and press Ctrl-C when it says so)
See:  press Ctrl-C
      worker 0 cleans up
      worker 1 cleans up
      worker 2 cleans up
      interrupted, and all workers have ended
"""

from trale_py import CancelScope, TaskGroup, sleep


async def worker(n: int) -> None:
    try:
        await sleep(3600)
    finally:
        with CancelScope(shield=True):  # without it, this await would be cut off at once, too
            await sleep(0.1 * n)  # in the place of: flush, say goodbye, ...
        print(f"worker {n} cleans up", flush=True)


async def ready() -> None:
    print("press Ctrl-C", flush=True)


try:
    with TaskGroup() as group:
        for n in range(3):
            group.spawn(worker(n))
        group.spawn(ready())
except KeyboardInterrupt:
    print("interrupted, and all workers have ended")
