"""Step 1: a future, and the simplest thing that can run one.

Run:  python from_scratch/1_block_on.py
See:  first
      second
      slept twice, with ... polls; the processor was busy for 0.2 of 0.2 seconds

A future is something that can be asked "are you done?". That is its poll(): it returns the
value, or PENDING. A coroutine is a chain of awaits, and at the end of each chain is a future.
"""

import time

PENDING = object()


class Future:
    def poll(self):
        raise NotImplementedError

    def __await__(self):
        # Where Python's await meets poll: not done, so give way, up through all the coroutines
        # to the loop that runs them. When that resumes us, ask again.
        while (value := self.poll()) is PENDING:
            yield
        return value


class Sleep(Future):
    def __init__(self, seconds):
        self.deadline = time.monotonic() + seconds

    def poll(self):
        return PENDING if time.monotonic() < self.deadline else None


def block_on(coro):
    """Run a coroutine to its end. Return its value, and how many polls it took."""
    polls = 0
    while True:
        polls += 1
        try:
            coro.send(None)  # run to the next yield: that is one poll of the whole chain
        except StopIteration as stop:
            return stop.value, polls


async def main():
    await Sleep(0.1)
    print("first")
    await Sleep(0.1)
    print("second")
    return "slept twice"


started, busy = time.monotonic(), time.process_time()
value, polls = block_on(main())
busy, took = time.process_time() - busy, time.monotonic() - started
print(f"{value}, with {polls} polls; the processor was busy for {busy:.1f} of {took:.1f} seconds")

# What is missing: it runs one coroutine, and no other can run while this one waits.
# And it does not wait at all: it asks, over and over. First the one, then the other.
