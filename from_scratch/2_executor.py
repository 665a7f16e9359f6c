"""Step 2: an executor. A queue of tasks, each polled in turn, and so many run at once.

Run:  python from_scratch/2_executor.py
See:  client 0 got b'hello 0'  (and 1 and 2, in any order)
      ... polls; the processor was busy for 0.1 of 0.1 seconds

Step 1 could run one coroutine. Here one thread runs a TCP server and its clients: a future
whose socket would block says PENDING, and while it is not its turn the others have theirs.
"""

import collections
import socket
import time

PENDING = object()
polls = 0


class Future:
    def __await__(self):
        while (value := self.poll()) is PENDING:
            yield
        return value


class Sleep(Future):
    def __init__(self, seconds):
        self.deadline = time.monotonic() + seconds

    def poll(self):
        return PENDING if time.monotonic() < self.deadline else None


class Try(Future):
    """A call of a non-blocking socket: done when the kernel does not say "would block"."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def poll(self):
        try:
            return self.call(*self.args)
        except BlockingIOError:
            return PENDING


class Executor:
    def __init__(self):
        self.tasks = collections.deque()

    def spawn(self, coro):
        self.tasks.append(coro)

    def run(self):
        global polls
        while self.tasks:
            coro = self.tasks.popleft()
            polls += 1
            try:
                coro.send(None)
                self.tasks.append(coro)  # not done: it will be asked again, as will all others
            except StopIteration:
                pass


async def echo(conn):
    with conn:
        while data := await Try(conn.recv, 1024):
            await Try(conn.send, data)


async def server(listener, clients):
    for _ in range(clients):
        conn, _ = await Try(listener.accept)
        conn.setblocking(False)
        executor.spawn(echo(conn))


async def client(n, address):
    with socket.create_connection(address) as conn:
        conn.setblocking(False)
        await Sleep(0.1)
        await Try(conn.send, b"hello %d" % n)
        print(f"client {n} got", await Try(conn.recv, 1024))


executor = Executor()
started, busy = time.monotonic(), time.process_time()
with socket.create_server(("127.0.0.1", 0)) as listener:
    listener.setblocking(False)
    executor.spawn(server(listener, 3))
    for n in range(3):
        executor.spawn(client(n, listener.getsockname()))
    executor.run()
busy, took = time.process_time() - busy, time.monotonic() - started
print(f"{polls} polls; the processor was busy for {busy:.1f} of {took:.1f} seconds")

# What is missing: nothing says when it is worth asking, so all are asked all the time.
