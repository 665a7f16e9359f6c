"""A task spawns another, goes on meanwhile, and awaits its handle for the result.

The words are those of trale's own example: Executor.spawn is spawn, Timer.sleep is sleep.

Run:  python examples/sub_tasks.py
See:  after 2 s  Hello A!  Hello from other task
      after 3 s  Hello B!  Bye bye from other task  (in either order)
      after 4 s  Hello C!
"""

from trale_py import Executor, Timer


async def other() -> int:
    print("Hello from other task")
    await Timer.sleep(1)
    print("Bye bye from other task")
    return 24


async def main() -> None:
    await Timer.sleep(2)
    print("Hello A!")

    task2 = Executor.spawn(other())

    await Timer.sleep(1)
    print("Hello B!")

    assert await task2 == 24

    await Timer.sleep(1)
    print("Hello C!")


Executor.spawn(main()).join()
