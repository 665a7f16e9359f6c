"""Step 3: wakers. A task is polled when wake() was called, and at no other time.

Run:  python from_scratch/3_wakers.py
See:  a lock, a condition and a deque: stuck, after ... wakes
      ping, ping, ping
      12 polls; the processor was busy for 0.0 of 0.3 seconds

poll() is handed a waker now, and keeps it where the news will arrive; the executor sleeps until
a waker puts its task on the queue. So the queue is where threads meet. And not only threads: a
signal handler, or a __del__, runs between two steps of the thread it interrupts, and may wake too.
"""

import collections
import queue
import signal
import threading
import time

PENDING, ready, current, polls, live = object(), queue.SimpleQueue(), None, 0, 3


class ObviousQueue:
    """Right between threads. Within one, the handler waits for the code it has interrupted."""

    def __init__(self):
        self.items = collections.deque()
        self.filled = threading.Condition(threading.Lock())

    def put(self, item):
        if not self.filled.acquire(timeout=0.2):  # without the timeout: stuck for ever
            raise TimeoutError
        self.items.append(item)
        self.filled.notify()
        self.filled.release()


def provoke(wakes):
    def handler(*_):
        wakes.put("from the handler")
        signal.setitimer(signal.ITIMER_REAL, 0.001)  # the next one

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        while True:
            wakes.put("from the thread")
    except TimeoutError:
        print("a lock, a condition and a deque: stuck, after", len(wakes.items), "wakes")


class Task:  # a coroutine and its waker in one
    def __init__(self, coro):
        self.coro = coro
        self.wake()

    def wake(self):
        ready.put(self)  # one call into C, where no handler can run: SimpleQueue allows for that


class Future:
    def __await__(self):
        while (value := self.poll(current)) is PENDING:
            yield
        return value


class Sleep(Future):
    def __init__(self, seconds):
        self.deadline = time.monotonic() + seconds

    def poll(self, waker):
        left = self.deadline - time.monotonic()
        if left <= 0:
            return None
        threading.Timer(left, waker.wake).start()  # a thread for each sleep: step 4 does better
        return PENDING


async def ping():
    for _ in range(3):
        await Sleep(0.1)
    print("ping", end="\n" if live == 1 else ", ")


provoke(ObviousQueue())
started, busy = time.monotonic(), time.process_time()
for _ in range(live):
    Task(ping())
while live:
    current = ready.get()  # sleeps while no task is ready
    polls += 1
    try:
        current.coro.send(None)
    except StopIteration:
        live -= 1
busy, took = time.process_time() - busy, time.monotonic() - started
print(f"{polls} polls; the processor was busy for {busy:.1f} of {took:.1f} seconds")

# What is missing: a thread that calls wake() when a socket is ready, and a thread for each sleep.
