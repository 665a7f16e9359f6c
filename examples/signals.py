"""A service that ends in order when it is told to: SIGTERM, or Ctrl-C.

    python examples/signals.py          then press Ctrl-C, or: kill PID

The signals reach a task, in the executor's thread, whatever the main thread does. A second
Ctrl-C has its usual effect, as the receiver is closed by then.
"""

import os
import signal
import time

from trale_py import TaskGroup, open_signal_receiver, sleep, spawn


async def work(n: int) -> None:
    try:
        await sleep(3600)
    finally:
        print(f"worker {n} puts its things away", flush=True)


async def service() -> None:
    async with TaskGroup() as group:
        for n in range(3):
            group.spawn(work(n))
        with open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            print(f"process {os.getpid()} is ready", flush=True)
            async for signum in signals:
                print(f"{signum.name}: the workers are cancelled", flush=True)
                break
        group.cancel_scope.cancel()


handle = spawn(service())
while not handle.done():
    time.sleep(0.05)  # the main thread may compute here, or sit in a call of C
handle.join()
print("done")
