"""A program around one coroutine: the main thread is the executor, and Ctrl-C cancels main.

    python examples/run_main.py          then wait, or press Ctrl-C

No thread but the reactor's is started. A signal handler of Python's runs at once, also while
all tasks sleep.
"""

import os
import signal
import sys

from trale_py import Event, run, sleep, spawn

told = Event()


def on_usr1(*_: object) -> None:
    told.set()  # safe in a handler


async def worker(n: int) -> int:
    try:
        await sleep(0.1 * n)
        return n * n
    finally:
        print(f"worker {n} has ended", flush=True)


async def main(count: int) -> int:
    workers = [spawn(worker(n)) for n in range(count)]
    os.kill(os.getpid(), signal.SIGUSR1)
    await told.wait()
    print("the signal was heard", flush=True)
    return sum([await one for one in workers])


signal.signal(signal.SIGUSR1, on_usr1)
try:
    print("sum of squares:", run(main, 4))
except KeyboardInterrupt:
    sys.exit("interrupted: main was cancelled, and so were the workers")
