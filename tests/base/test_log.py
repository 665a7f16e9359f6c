"""Reports: what cannot be raised to anybody is logged, and no handler can stop the executor."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.interleave import Interleaving, everywhere
from tests.support.tasks import give
from trale_py import Executor, block_on, spawn
from trale_py.base import log
from trale_py.base.log import flush, report

Script = Callable[..., "subprocess.CompletedProcess[str]"]


async def fail() -> None:
    raise ValueError("nobody takes me")


class Handler(logging.Handler):
    """Calls ``emit`` for each record, in the thread that reports."""

    def __init__(self, emit: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.emit = emit  # type: ignore[method-assign, assignment]


@contextmanager
def handler(emit: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    logger, own = logging.getLogger("trale_py"), Handler(emit)
    logger.addHandler(own)
    try:
        yield
    finally:
        assert flush(20)
        logger.removeHandler(own)


# -- no handler runs on the executor -----------------------------------------------------------


@pytest.mark.parametrize("fd", ["full", "closed"])
def test_L7_stderr_that_takes_nothing_stops_no_task(fd: str) -> None:
    source = """
        import faulthandler, os, sys
        faulthandler.dump_traceback_later(40, exit=True, file=open(os.devnull, "w"))
        from trale_py import block_on, spawn
        async def fail(): raise ValueError("x" * 2000)
        async def give(value): return value
        for _ in range(200): spawn(fail())
        print(block_on(give(1)), flush=True)
        os._exit(0)
    """
    read, write = os.pipe()  # never read
    try:
        process = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source)],
            stdout=subprocess.PIPE,
            stderr=write,
            timeout=50,
            check=False,
            preexec_fn=(lambda: os.close(2)) if fd == "closed" else None,
        )
    finally:
        os.close(read)
        os.close(write)
    assert (process.returncode, process.stdout) == (0, b"1\n")


def test_L7_a_handler_may_wait_for_a_task() -> None:
    seen = []
    with handler(lambda record: seen.append(block_on(give(7)))):
        spawn(fail())
        assert block_on(give(1)) == 1
    assert seen == [7]


def test_L7_a_handler_that_never_returns_bounds_what_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The oldest are kept, and one line tells how many were dropped."""
    entered, leave = threading.Event(), threading.Event()

    def emit(record: logging.LogRecord) -> None:
        entered.set()
        leave.wait(20)

    with handler(emit):
        report("the first")
        assert entered.wait(20)
        for n in range(log._LIMIT + 50):
            report("number %d", n)
        assert block_on(give(1)) == 1
        assert not flush(0.01)
        leave.set()
        assert flush(20)
        report("the last")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "the first",
        *(f"number {n}" for n in range(log._LIMIT)),
        "50 reports were dropped here: the log handlers are too slow",
        "the last",
    ]


def test_R38_a_drop_while_the_drops_are_told() -> None:
    """See interleave.py: each drop is in a count that was told, or will be."""

    def attempt(at: Callable[[Callable[[], object]], Interleaving]) -> None:
        told: list[str] = []
        with handler(lambda record: told.append(record.getMessage())):
            reporter = log._Reporter()
            reporter._drop()
            at(reporter._drop).run(reporter._tell_drops)
            while not reporter._inbox.empty():
                reporter._handle(reporter._inbox.get())
            reporter._tell_drops()
        assert 1 <= sum(int(line.split()[0]) for line in told) <= 2
        assert reporter._drops_told == reporter._count_drop() - reporter._drops_looked_at

    assert everywhere(log, attempt) > 3


def test_G17_a_handler_that_raises_anything_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def emit(record: logging.LogRecord) -> None:
        raise SystemExit

    with handler(emit):
        for n in range(3):
            report("number %d", n)
    assert [record.getMessage() for record in caplog.records] == []  # it came first
    report("afterwards")
    assert [record.getMessage() for record in caplog.records] == ["afterwards"]


def test_a_handler_may_shut_down_and_does_not_wait_for_itself() -> None:
    with handler(lambda record: Executor.shutdown()):
        report("one")
    assert block_on(give(1)) == 1


# -- the record is made where it happened ------------------------------------------------------


def test_the_record_tells_the_thread_and_the_place(caplog: pytest.LogCaptureFixture) -> None:
    values = [1]
    report("%r", values)
    values.append(2)
    (record,) = caplog.records
    assert record.getMessage() == "[1]"
    assert record.threadName == "MainThread"
    assert record.pathname == __file__
    assert record.funcName == "test_the_record_tells_the_thread_and_the_place"


def test_G16_a_repr_that_raises_loses_no_report(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise SystemExit

    report("%r is broken", Broken(), error=ValueError("the cause"))
    assert "is broken (formatting it failed: SystemExit)" in caplog.text
    assert "ValueError: the cause" in caplog.text


def test_a_message_without_arguments_may_have_a_percent_sign(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report("100% of it")
    assert caplog.messages == ["100% of it"]


def test_what_nobody_listens_to_is_not_queued(caplog: pytest.LogCaptureFixture) -> None:
    report("unheard", level=logging.DEBUG)
    caplog.set_level(logging.DEBUG, "trale_py")
    report("heard", level=logging.DEBUG)
    assert caplog.messages == ["heard"]


# -- the thread ---------------------------------------------------------------------------------


def test_G9_no_thread_before_the_first_report_and_one_after(run_script: Script) -> None:
    result = run_script(
        """
        import logging, threading
        from trale_py import *
        from trale_py.base.log import flush, report
        async def give(value): return value
        def names(): return sorted(t.name for t in threading.enumerate() if "report" in t.name)
        block_on(give(1))
        assert names() == []
        logging.getLogger("trale_py").addHandler(logging.NullHandler())
        logging.getLogger("trale_py").propagate = False
        for n in range(300): report("%d", n)
        assert flush(10)
        while names() != ["trale-report"]: pass  # one too many ends at once
        Executor.shutdown()
        assert names() == ["trale-report"]
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_A11_a_report_within_the_start_of_a_thread(run_script: Script) -> None:
    """A signal handler's: it must not wait for the lock that Thread.start() holds around it."""
    result = run_script(
        """
        import threading
        from tests.support.interleave import everywhere
        from trale_py.base import log

        def attempt(at):
            log.start_anew()
            at(lambda: log.report("one")).run(threading.Thread(target=int).start)
            assert log.flush(10)

        assert everywhere(threading, attempt) > 10
        """
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stderr.split()) == {"one"}


def test_H21_a_reporting_thread_that_was_killed_is_replaced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: ended.set())
    report("one")
    assert flush(20)
    ident = ctypes.c_ulong(log._reporter._ident)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemError))
    log._reporter._inbox.put(int)  # it looks up
    while not ended.wait(0.01) and log._reporter._ident:
        pass
    report("two")
    assert caplog.messages[-1] == "two"


def test_H9_a_forks_child_begins_without_one(run_script: Script) -> None:
    result = run_script(
        """
        import faulthandler, os, threading, warnings
        faulthandler.cancel_dump_traceback_later()  # it hangs a fork's child
        warnings.simplefilter("ignore")
        from trale_py.base.log import flush, report
        report("the parent's")
        assert flush(10)
        if os.fork() == 0:
            assert [t.name for t in threading.enumerate()] == ["MainThread"]
            report("the child's")
        else:
            assert os.wait()[1] == 0
            print("ok")
        """
    )
    assert (result.stdout, result.stderr) == ("ok\n", "the parent's\nthe child's\n")


def test_a_shutdown_waits_for_the_handlers() -> None:
    seen = []

    def emit(record: logging.LogRecord) -> None:
        time.sleep(0.05)
        seen.append(record)

    with handler(emit):
        handle = spawn(fail())
        Executor.shutdown()
        assert len(seen) == 1
    del handle


# -- the interpreter's exit ---------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1])
def test_G9_the_first_error_of_the_process_is_reported_at_exit(
    before: int, run_script: Script
) -> None:
    """From 3.12 on no thread can be started then."""
    result = run_script(
        """
        import sys
        from trale_py import *
        async def fail(): raise ValueError("nobody takes me")
        async def give(value): return value
        if sys.argv[1] == "1":
            spawn(fail())
        handle = spawn(fail())
        block_on(give(1))
        """,
        str(before),
    )
    assert result.returncode == 0
    assert result.stderr.count("ValueError: nobody takes me") == before + 1
    assert result.stderr.count("Traceback") == before + 1


def test_G9_an_error_in_a_finally_block_at_exit_is_reported(run_script: Script) -> None:
    result = run_script(
        """
        import math
        from trale_py import *
        begun = Event()
        async def fails():
            try:
                begun.set()
                await sleep(math.inf)
            finally:
                raise ValueError("in finally")
        spawn(fails())
        block_on(begun.wait())
        """
    )
    assert result.returncode == 0
    assert result.stderr.count("ValueError: in finally") == 1
