"""A service that ends in order: SIGTERM stops it, and what is under way is finished.

Run:  python examples/service.py
      nc 127.0.0.1 PORT         (say a number: it counts down, a tick each 0.1 s)
      kill PID                  (the count goes on to its end, if that takes at most 5 s)
See:  process PID serves port PORT
      stopping: SIGTERM
      ended, 3 ticks
"""

import os
import signal

from trale_py import StopToken, TcpStream, fail_after, interval, move_on_after, serve, spawn

stop = StopToken()
ticks = 0


async def count_down(stream: TcpStream) -> None:
    global ticks
    with fail_after(30):  # for a client that says nothing
        n = int(await stream.read_until(b"\n", limit=10))
    every = interval(0.1)
    while n > 0:
        await stream.write_all(b"%d\n" % n)
        await every.tick()
        ticks += 1
        n -= 1


async def say_how_it_is() -> None:
    while True:
        with move_on_after(60):
            await stop.wait()
            print("stopping:", stop.reason.name, flush=True)
            return
        print("serving,", ticks, "ticks", flush=True)


with stop.on_signal(signal.SIGTERM, signal.SIGINT):
    with serve(count_down, "127.0.0.1:0", limit=1000, grace=5) as server:
        print("process", os.getpid(), "serves port", server.addresses[0][1], flush=True)
        saying = spawn(say_how_it_is())
        stop.wait_blocking()
    saying.join()
print(f"ended, {ticks} ticks")
