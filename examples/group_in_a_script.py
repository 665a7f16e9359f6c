"""Several tasks that end together, in a plain script: with TaskGroup() as group.

Run:  python examples/group_in_a_script.py
See:  the squares: [0, 1, 4, 9]
      task 2 gives up
      other tasks are cancelled
      what failed: [ValueError('2 is not a good number')]
"""

from trale_py import Cancelled, TaskGroup, sleep


async def square(n: int) -> int:
    await sleep(0.01 * n)
    return n * n


async def picky(n: int) -> None:
    try:
        await sleep(0.1 if n == 2 else 60)
    except Cancelled:
        if n == 3:  # for all of them
            print("other tasks are cancelled")
        raise
    print(f"task {n} gives up")
    raise ValueError(f"{n} is not a good number")


with TaskGroup() as group:
    handles = [group.spawn(square(n)) for n in range(4)]
# Here all of them have ended.
print("the squares:", [handle.result() for handle in handles])

try:
    with TaskGroup() as group:
        for n in range(4):
            group.spawn(picky(n))  # the first to fail has the others cancelled
except* ValueError as failures:  # whatever fails comes out in one ExceptionGroup
    print("what failed:", list(failures.exceptions))
