"""Time limits: on one await, on a block of code, on a whole task.

Run:  python examples/timeout.py
See:  the limit on one await: timed out after 0.1 seconds
      the block was left after 0.1 s, with 2 pages
      the cleanup took the time it needed
      the task was cancelled: the user has gone
"""

from trale_py import (
    CancelScope,
    TaskCancelled,
    move_on_after,
    now,
    sleep,
    spawn,
    timeout,
)


async def page(n: int) -> int:
    await sleep(0.04)
    return n


async def slow() -> None:
    try:
        await sleep(60)
    finally:
        with CancelScope(shield=True):  # a cancellation is not heard in here
            await sleep(0.05)
            print("the cleanup took the time it needed")


async def main() -> None:
    try:
        await timeout(0.1, sleep(60))
    except TimeoutError as error:
        print("the limit on one await:", error)

    started = now()
    pages = []
    with move_on_after(0.1):
        for n in range(1000):
            pages += [await page(n)]
    print(f"the block was left after {now() - started:.1f} s, with {len(pages)} pages")


spawn(main()).join()

task = spawn(slow())
spawn(sleep(0.05)).join()  # it has begun by then; otherwise it would never, nor clean up
task.cancel("the user has gone")
try:
    task.join()
except TaskCancelled as error:
    print("the task was cancelled:", error.reason)
