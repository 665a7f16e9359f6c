"""The machine: an executor that polls tasks, and a reactor that waits for the kernel.

Read it in this order: executor, task, waker, future, run_queue; then reactor, poller, source,
timer_heap; then join, outcome, latch. ``engine`` chooses between Python and C.
"""
