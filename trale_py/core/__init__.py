"""The machine: an executor that polls tasks, and a reactor that waits for the kernel.

Read it in this order: executor, task, waker, future, run_queue; then reactor, poller, source,
timer_heap; then join, outcome, latch. ``engine`` chooses between Python and C.

Which file answers what:

- Which thread polls, and which waits? The headers of executor.py and reactor.py.
- Why is a task in the wait-queue before its poll? ``Executor._poll`` (R2).
- What if a waker is called twice, or late? The header of waker.py; ``RunQueue.wake``.
- Where does a coroutine suspend? ``poll_until_ready`` in future.py, and nowhere else.
- How does a sleep end? The header of poller.py.
- What if a descriptor is closed and its number used again? The header of poller.py (R5).
- What keeps one task from starving others? ``RunQueue.next_batch``; BUDGET in task.py.
- Which lock guards what? There is none: the header of run_queue.py says what is in its place (R1).
- Why is there no join on the executor's thread? ``JoinHandle.join``.
- What if a readiness is handed to a task that is cancelled? ``Direction.notify`` in source.py.
"""
