"""Step 4: a reactor. One thread waits for all sockets and all sleeps at once, and calls wakers.

Run:  python from_scratch/4_reactor.py
See:  b'hello 0' b'hello 1' b'hello 2'
      ... polls (about ten), 0.0 seconds of the processor
"""

import functools
import heapq
import os
import queue
import select
import socket
import threading
import time

PENDING, ready, current, polls = object(), queue.SimpleQueue(), None, 0
epoll, wakers, timers = select.epoll(), {}, []
bell = os.eventfd(0)  # a new sleep rings it, to get the reactor out of epoll


def executor():
    global current, polls
    while True:
        coro, polls = ready.get(), polls + 1  # sleeps while no task is ready
        current = functools.partial(ready.put, coro)  # the waker: to call it is to wake
        next(coro, None)  # one poll: to its next yield, or to its end


def reactor():
    epoll.register(bell, select.EPOLLIN)
    while True:
        timeout = max(0, timers[0][0] - time.monotonic()) if timers else None
        for fd, _ in epoll.poll(timeout):
            if fd == bell:
                os.eventfd_read(bell)
            else:
                epoll.unregister(fd)  # it tells once; a task that must wait again comes again
                wakers.pop(fd)()
        while timers and timers[0][0] <= time.monotonic():
            heapq.heappop(timers)[2]()


class Future:
    def __await__(self):
        while (value := self.poll(current)) is PENDING:
            yield
        return value


class Sleep(Future):
    def __init__(self, seconds):
        self.deadline = time.monotonic() + seconds

    def poll(self, wake):
        if time.monotonic() >= self.deadline:
            return None
        heapq.heappush(timers, (self.deadline, id(self), wake))  # one call into C again
        os.eventfd_write(bell, 1)
        return PENDING


class Try(Future):
    def __init__(self, sock, call, *args):
        self.sock, self.call, self.args = sock, call, args

    def poll(self, wake):
        try:
            return self.call(*self.args)
        except BlockingIOError:
            wakers[self.sock.fileno()] = wake  # first: epoll may answer at once
            epoll.register(self.sock, select.EPOLLIN)
            return PENDING


async def echo(conn):
    while data := await Try(conn, conn.recv, 1024):
        await Sleep(0.1)
        conn.send(data)  # so little never has to wait


async def server(listener):
    while conn := (await Try(listener, listener.accept))[0]:
        conn.setblocking(False)
        ready.put(echo(conn).__await__())


for loop in (executor, reactor):
    threading.Thread(target=loop, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as listener:
    listener.setblocking(False)
    ready.put(server(listener).__await__())
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    for n, client in enumerate(clients):
        client.send(b"hello %d" % n)
    print(*[client.recv(1024) for client in clients])
print(f"{polls} polls, {time.process_time():.1f} seconds of the processor")

# What is missing: results, errors, an end; cancelling; two tasks at one socket; and speed.
