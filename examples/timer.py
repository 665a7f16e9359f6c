"""Two tasks race to print.

The words are those of trale's own example: Executor.spawn is spawn, Timer.sleep is sleep.

Run:  python examples/timer.py
See:  after 2, 3 and 4 seconds a pair of lines, in either order within a pair:
      Hello A!  Hello a!  Hello B!  Hello b!  Hello C!  Hello c!
"""

from trale_py import Executor, Timer


async def hello(names: str) -> None:
    await Timer.sleep(2)
    print(f"Hello {names[0]}!")
    await Timer.sleep(1)
    print(f"Hello {names[1]}!")
    await Timer.sleep(1)
    print(f"Hello {names[2]}!")


task1 = Executor.spawn(hello("ABC"))
task2 = Executor.spawn(hello("abc"))

task1.join()
task2.join()
