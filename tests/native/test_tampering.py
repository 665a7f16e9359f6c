"""G4: what Python code can do to the objects of the native engine does not end the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trale_py.core.engine import native

if native is None:
    pytest.skip("there is no native engine", allow_module_level=True)

from tests.support import tamper

TYPES = sorted(name for name, value in vars(native).items() if isinstance(value, type))


def test_each_type_has_its_turn() -> None:
    assert set(TYPES) == set(tamper.MAKERS)


@pytest.mark.slow
@pytest.mark.parametrize("what", [*TYPES, "running"])
def test_G4_G16_nothing_that_is_set_deleted_or_called_is_a_crash(what: str) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", tamper.__file__, what],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert result.stdout.endswith("survived\n"), (result.returncode, result.stderr[-2000:])


@pytest.mark.parametrize(
    "code",
    [
        "native.QueueCore(1)",
        "native.Io(0).recv(1, 1)",
        "native.SemaphoreCore(0).acquire()",
        "native.Runtime()",
        "native.spawn(1)",
        "native.BaseStream().read()",
        "native.RunQueue().push(1)",
    ],
)
def test_what_is_in_c_is_refused_while_the_python_engine_is_in_use(code: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"from trale_py import _native as native; {code}"],
        capture_output=True,
        text=True,
        env={**os.environ, "TRALE_PURE": "1"},
        timeout=55,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "Error: " in result.stderr


@pytest.mark.parametrize("end", ["again", "raises", "ends"])
@pytest.mark.parametrize("what", ["drop", "close", "poll", "unwatch", "closed"])
def test_R44_what_an_operation_calls_may_drop_it(what: str, end: str) -> None:
    made = tamper.Set()

    def function() -> int:
        if what == "poll":
            operations[0].poll(made.cx)
        elif what == "unwatch":
            made.poller.unwatch(made.io.source)
        elif what == "closed":
            made.io.closed = True
        else:
            getattr(operations[0], what)()
        if end == "again":
            raise BlockingIOError
        return 1 // (end == "ends")

    operations = [made.io.call(made, function, 0, False)]
    tamper.quietly(operations[0].poll, made.cx)
    made.peer.send(b"x")
    operations.clear()
    made.queue.call(int)
    assert list(made.queue.next_batch()) == []
    made.ours.close()
    made.peer.close()
    made.poller.close()
