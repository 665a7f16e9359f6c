"""What no caller can be told by an exception is logged, as ``logging.getLogger("trale_py")``.

A logging handler is the user's code. It may write to a pipe that no process reads, or wait for a
task. So none runs on the executor: ``report`` makes the record where it happened and hands it over
by one C call, and a thread of the process, ``trale-report``, gives it to the handlers. The first
report starts that thread. It ends with the process, and a fork's child begins without one."""

from __future__ import annotations

import _thread
import contextlib
import itertools
import logging
import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from .errors import traceback_of
from .threads import Thread

_log = logging.getLogger("trale_py")

# How many reports may wait for the handlers. Those that come then are counted, and dropped.
_LIMIT = 1000


def report(
    message: str,
    *args: object,
    error: BaseException | None = None,
    level: int = logging.ERROR,
) -> None:
    """Log an error. From any thread, a signal handler or a ``__del__``; never waits or raises."""
    with contextlib.suppress(BaseException):
        if level >= _log.getEffectiveLevel():
            _reporter.publish(_record(level, _text(message, args), error))


def flush(seconds: float) -> bool:
    """Wait until the handlers have had all reports made so far. False: they did not, in that time.

    Where no thread can be started any more, at the interpreter's exit, they are called here.
    """
    return _reporter.flush(seconds)


def _text(message: str, args: tuple[object, ...]) -> str:
    """Made here and now: later these objects may have changed."""
    try:
        return message % args if args else message
    except BaseException as error:  # of a __repr__ of the user's
        return f"{message} (formatting it failed: {type(error).__name__})"


def _record(level: int, text: str, error: BaseException | None) -> logging.LogRecord:
    caller = sys._getframe(2)
    file, line, function = caller.f_code.co_filename, caller.f_lineno, caller.f_code.co_name
    raised = None
    if error is not None:
        raised = (type(error), error, traceback_of(error))
    return _log.makeRecord(_log.name, level, file, line, text, (), raised, function)


class _Reporter:
    """The reports that wait, and the thread that gives them to the handlers."""

    def __init__(self) -> None:
        # What is not a record is to be called.
        self._inbox: SimpleQueue[logging.LogRecord | Callable[[], object]] = SimpleQueue()
        self._claim: dict[
            None, threading.Thread
        ] = {}  # of the thread that reports, as in executor.py
        self._ident = 0  # of that thread
        self._may_start = [True]  # taken by the report that starts the thread
        self._count_drop = itertools.count().__next__
        self._drops_told = 0
        self._drops_looked_at = 0
        self._drops_marked = False

    # -- any thread, at any moment: each step is one C call -------------------------------------

    def publish(self, record: logging.LogRecord) -> None:
        if self._inbox.qsize() >= _LIMIT:
            self._drop()
        else:
            self._inbox.put(record)
        if not self._claim:
            self._start_soon()

    def _drop(self) -> None:
        """Count it, and have the count told at this place of the queue.

        R38: the thread may tell a count just now. We count first and look at the mark second; it
        takes the mark away first and looks at the count second. So either it tells this drop, or
        we leave a mark of our own.
        """
        self._count_drop()
        if not self._drops_marked:
            self._drops_marked = True
            self._inbox.put(self._tell_drops)

    def _start_soon(self) -> None:
        # By a bare thread: Thread.start() takes a lock, and we may be in a signal handler that has
        # interrupted another Thread.start().
        with contextlib.suppress(IndexError):
            self._may_start.pop()
            try:
                _thread.start_new_thread(self._start, ())
            except BaseException:  # the interpreter exits: see flush()
                self._may_start.append(True)

    # -- threads that may wait --------------------------------------------------------------------

    def _start(self) -> bool:
        try:
            Thread(self._run, "trale-report", self._ended).start()
        except BaseException:  # no memory, no more threads, the interpreter exits
            self._may_start[:] = [True]
            return False
        return True

    def flush(self, seconds: float) -> bool:
        if threading.get_ident() == self._ident:  # in a handler
            return False
        if not self._claim and self._inbox.empty():
            return True
        done = threading.Lock()
        done.acquire()
        self._inbox.put(done.release)
        if not self._claim and not self._start():
            with contextlib.suppress(Empty):
                while True:
                    self._handle(self._inbox.get_nowait())
        return done.acquire(timeout=max(0.0, seconds))

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        me = threading.current_thread()
        if self._claim.setdefault(None, me) is not me:
            return
        self._ident = threading.get_ident()
        while True:
            self._handle(self._inbox.get())

    def _ended(self, me: Thread) -> None:
        """It was terminated. The next report starts another."""
        if self._claim.get(None) is me:
            self._ident = 0
            self._claim.clear()
        self._may_start[:] = [True]

    def _handle(self, item: logging.LogRecord | Callable[[], object]) -> None:
        with contextlib.suppress(BaseException):  # a filter that raises
            if not isinstance(item, logging.LogRecord):
                item()
            elif _log.isEnabledFor(item.levelno):
                self._log(item)

    def _log(self, record: logging.LogRecord) -> None:
        try:
            _log.handle(record)
        except BaseException:  # of the user's error, which a handler has tried to show
            if record.exc_info is None:
                raise
            record.msg += " (formatting its error failed)"
            record.exc_info = None
            _log.handle(record)

    def _tell_drops(self) -> None:
        self._drops_marked = False  # R38
        total = self._count_drop() - self._drops_looked_at  # each look takes a number too
        self._drops_looked_at += 1
        count, self._drops_told = total - self._drops_told, total
        if count:
            _log.error("%d reports were dropped here: the log handlers are too slow", count)


def start_anew() -> None:
    """In a fork's child: the reports and their thread are the parent's."""
    global _reporter
    _reporter = _Reporter()


_reporter = _Reporter()
