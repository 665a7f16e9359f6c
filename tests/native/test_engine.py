"""What the native engine does that the Python one has no need to: see docs/design.md."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.net_helpers import TIMEOUT, parked, stream_and_peer
from trale_py import Reactor, block_on, engine, sleep, spawn

Script = Callable[..., "subprocess.CompletedProcess[str]"]

native_only = pytest.mark.skipif(engine == "python", reason="about the native engine")


def counts() -> dict[str, int]:
    return Reactor.get()._poller.counts()


@native_only
@pytest.mark.parametrize("how", ["computes", "keeps the GIL"])
def test_A17_what_comes_while_the_executor_is_stuck_is_collected_and_delivered_at_its_next_turn(
    how: str,
) -> None:
    with stream_and_peer() as (stream, peer):
        order: list[str] = []

        async def reads() -> None:
            await stream.read()
            order.append("read")

        async def sleeps() -> None:
            await sleep(0.01)
            order.append("slept")

        async def is_stuck() -> None:
            before = counts()["collected"]
            peer.send(b"x")
            end = time.monotonic() + TIMEOUT
            if how == "computes":
                while counts()["collected"] < before + 2:
                    assert time.monotonic() < end, "nobody collects"
            else:
                while counts()["collected"] < before + 2:
                    assert time.monotonic() < end, "nobody collects"
                    pow(3, 30_000)  # a C call, of some milliseconds, that does not give way
            order.append("stuck no more")

        waiting = [parked(reads()), parked(sleeps())]
        block_on(is_stuck())
        for handle in waiting:
            handle.join(TIMEOUT)
        assert order[0] == "stuck no more"
        assert sorted(order[1:]) == ["read", "slept"]


@pytest.mark.slow
@native_only
def test_messages_come_through_while_the_main_thread_computes() -> None:
    """Each pair of messages would take two switch intervals if the GIL were given up for it."""
    stop = threading.Event()

    async def echo(stream: Any) -> None:
        while data := await stream.read():
            await stream.write_all(data)

    def converse(peer: Any) -> None:
        try:
            for i in range(500):
                peer.sendall(b"%03d" % i)
                assert peer.recv(3) == b"%03d" % i
        finally:
            stop.set()

    with stream_and_peer() as (stream, peer):
        serving = spawn(echo(stream))
        talking = threading.Thread(target=converse, args=(peer,))
        talking.start()
        deadline = time.monotonic() + TIMEOUT
        while not stop.is_set():
            assert time.monotonic() < deadline
        talking.join()
        peer.close()
        serving.join(TIMEOUT)


# -- one process, one native engine ----------------------------------------------------------------


def test_G19_a_second_import_works_or_says_why_not(run_script: Script) -> None:
    result = run_script(
        """
        import os, sys, warnings
        from unittest.mock import patch

        async def give(n):
            return n

        if os.environ.get("TRALE_ENGINE") == "native":
            del os.environ["TRALE_ENGINE"]  # the second import has the Python engine

        with patch.dict(sys.modules):
            import trale_py as first
            assert first.spawn(give(1)).join(20) == 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import trale_py as second
        assert second is not first
        assert (second.spawn(give(2)).join(20), first.spawn(give(3)).join(20)) == (2, 3)
        print([str(one.message) for one in caught])
        """
    )
    assert result.stderr == ""
    said = "belongs to the first import" in result.stdout
    assert said or (engine == "python" and result.stdout == "[]\n"), result.stdout


def test_G19_a_reload_starts_no_second_runtime(run_script: Script) -> None:
    result = run_script(
        """
        import importlib, threading
        import trale_py

        async def give(n):
            return n

        assert trale_py.spawn(give(1)).join(20) == 1
        before = (threading.active_count(), trale_py.Executor.get())
        assert importlib.reload(trale_py).spawn(give(2)).join(20) == 2
        assert (threading.active_count(), trale_py.Executor.get()) == before
        """
    )
    assert (result.returncode, result.stderr) == (0, "")


@native_only
@pytest.mark.parametrize("module", ["core.task", "core.runtime", "sync.lock_core"])
def test_G19_a_module_that_is_in_c_is_not_reloaded(run_script: Script, module: str) -> None:
    result = run_script(
        f"""
        import importlib, sys
        import trale_py

        async def main():
            await trale_py.sleep(0)
            return "works"

        try:
            importlib.reload(sys.modules["trale_py.{module}"])
        except RuntimeError as error:
            print(error)
        print(trale_py.block_on(main()))
        """
    )
    assert "cannot be reloaded" in result.stdout, result.stderr
    assert "works" in result.stdout


@pytest.mark.parametrize("first", ["import trale_py", ""])
@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_G19_a_subinterpreter_is_refused_in_a_sentence(
    run_script: Script, first: str, kind: str
) -> None:
    result = run_script(
        f"""
        import sys
        try:
            import _interpreters as interpreters  # from 3.13 on
        except ImportError:
            import _xxsubinterpreters as interpreters
        {first}
        code = '''if True:
            import sys
            sys.path[:] = {sys.path!r}
            for name in ("trale_py", "trale_py._native"):
                try:
                    __import__(name)
                except ImportError as error:
                    print(error)
            '''
        try:
            inside = interpreters.create({kind!r})
        except TypeError:
            inside = interpreters.create(isolated={kind == "isolated"})
        run = getattr(interpreters, "exec", None) or interpreters.run_string
        assert run(inside, code) is None
        """
    )
    assert result.stdout == "trale_py cannot be used in a subinterpreter\n" * 2, result.stderr
