"""A server in several processes on one port, each with its own runtime. One that dies is replaced.

Run:  python examples/workers.py 5000
      nc 127.0.0.1 5000                  (again and again: the kernel picks a process)
      kill -9 4711                       (one of them)
See:  worker 4711 serves port 5000  (and another)
      worker 4711 has died, status -9
      and after one Ctrl-C:  the workers end
"""

import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import wait

from linuxfd import signalfd

from trale_py import TcpListener, TcpStream, spawn


async def answer(stream: TcpStream) -> None:
    async with stream:
        await stream.write_all(b"hello from process %d\n" % os.getpid())


async def serve(port: int) -> None:
    with TcpListener.bind(("127.0.0.1", port), reuse_port=True) as listener:
        # In one piece, as they all write to the same terminal.
        print(f"worker {os.getpid()} serves port {port}\n", end="", flush=True)
        async for stream in listener:
            spawn(answer(stream))


def work(port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an exit: what runs is cancelled
    spawn(serve(port)).join()


def start(port: int) -> multiprocessing.Process:
    worker = multiprocessing.get_context("fork").Process(target=work, args=(port,), daemon=True)
    worker.start()
    return worker


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    # A terminal sends Ctrl-C to all its processes, but it is for the first to say what becomes of
    # the others. So it is blocked, in the workers too, and the first one reads it from a signalfd.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    ctrl_c = signalfd({signal.SIGINT}, closeOnExec=True)
    workers = [start(port) for _ in range(2)]
    while ctrl_c not in wait([ctrl_c, *(worker.sentinel for worker in workers)]):
        for n, worker in enumerate(workers):
            if not worker.is_alive():
                print(f"worker {worker.pid} has died, status {worker.exitcode}", flush=True)
                workers[n] = start(port)
    print("the workers end")  # multiprocessing sees to it at the exit: they are its daemons
