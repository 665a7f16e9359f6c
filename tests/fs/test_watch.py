"""fs.watch: what happens to files, as events."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import linuxfd
import pytest

from tests.support.net_helpers import TIMEOUT, run
from trale_py import ClosedResourceError, fail_after, fs, move_on_after, spawn, yield_now
from trale_py.fs import FileEvent, inotify
from trale_py.fs.events import FileWatch


async def take(events: FileWatch, count: int) -> list[FileEvent]:
    with fail_after(TIMEOUT):
        return [await anext(events) for _ in range(count)]


async def until(events: FileWatch, path: Path) -> list[FileEvent]:
    """All events up to the making of ``path``."""
    path.mkdir()
    found: list[FileEvent] = []
    with fail_after(TIMEOUT):
        while not found or found[-1].path != str(path):
            found.append(await anext(events))
    return found[:-1]


def test_what_happens_in_a_folder(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"

    async def main() -> None:
        async with fs.watch(tmp_path) as events:
            file.write_bytes(b"x")
            file.rename(other)
            other.unlink()
            kinds = [(e.kind, e.path, e.dest) for e in await until(events, tmp_path / "end")]
            assert kinds == [
                ("created", str(file), None),
                ("modified", str(file), None),
                ("closed", str(file), None),
                ("moved", str(file), str(other)),
                ("deleted", str(other), None),
            ]

    run(main())


def test_one_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    async def main() -> None:
        async with fs.watch(file) as events:
            with file.open("ab") as writer:
                writer.write(b"x")
            file.unlink()
            found = await take(events, 5)
            assert {event.path for event in found} == {str(file)}
            assert [event.kind for event in found][-2:] == ["deleted", "ignored"]
            assert "closed" in [event.kind for event in found]

    run(main())


@pytest.mark.parametrize("into", [True, False])
def test_half_a_rename(tmp_path: Path, into: bool) -> None:
    watched, outside = tmp_path / "watched", tmp_path / "outside"
    watched.mkdir()
    outside.mkdir()
    here, there = watched / "file", outside / "file"
    (there if into else here).touch()

    async def main() -> None:
        async with fs.watch(watched) as events:
            (there if into else here).rename(here if into else there)
            kind: Any = "created" if into else "deleted"
            assert await take(events, 1) == [FileEvent(kind, str(here))]

    run(main())


def test_recursive_with_folders_made_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()

    async def main() -> None:
        async with fs.watch(tmp_path, recursive=True) as events:
            (tmp_path / "old/file").touch()
            deep = tmp_path / "new/a/b"
            deep.mkdir(parents=True)
            (deep / "file").touch()
            found = await until(events, tmp_path / "end")
            created = [event.path for event in found if event.kind == "created"]
            expected = ["old/file", "new", "new/a", "new/a/b", "new/a/b/file"]
            assert sorted(created) == sorted(str(tmp_path / name) for name in expected)
            assert {event.is_dir for event in found if event.path.endswith("/b")} == {True}

    run(main())


def test_recursive_a_folder_moves_and_leaves(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    (watched / "one/in").mkdir(parents=True)

    async def main() -> None:
        async with fs.watch(watched, recursive=True) as events:
            (watched / "one").rename(watched / "two")
            assert await take(events, 1) == [
                FileEvent("moved", str(watched / "one"), str(watched / "two"), True)
            ]
            (watched / "two/in/file").touch()
            found = await until(events, watched / "end")
            assert FileEvent("created", str(watched / "two/in/file")) in found
            (watched / "two").rename(tmp_path / "away")
            assert await take(events, 1) == [FileEvent("deleted", str(watched / "two"), None, True)]
            (tmp_path / "away/in/unseen").touch()
            assert await until(events, watched / "end2") == []

    run(main())


def test_I15_I20_the_folder_itself_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    async def main() -> None:
        async with fs.watch(folder) as events:
            folder.rmdir()
            assert [event.kind for event in await take(events, 2)] == ["deleted", "ignored"]

    run(main())


def test_I15_a_folder_that_is_removed_from_a_tree_loses_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    async def main() -> None:
        async with fs.watch(tmp_path, recursive=True) as events:
            (tmp_path / "folder").rmdir()
            (tmp_path / "file").touch()
            found = await until(events, tmp_path / "end")
            assert FileEvent("deleted", str(tmp_path / "folder"), None, True) in found
            assert FileEvent("created", str(tmp_path / "file")) in found
            assert "ignored" not in {event.kind for event in found}

    run(main())


def test_I16_an_overflow_is_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with fs.watch(tmp_path) as events:
            (tmp_path / "file").mkdir()
            read = os.read
            overflow = struct.pack("iIII", -1, linuxfd.IN_Q_OVERFLOW, 0, 0)
            monkeypatch.setattr(inotify.os, "read", lambda fd, n: overflow + read(fd, n))
            assert [event.kind for event in await take(events, 2)] == ["overflow", "created"]
            monkeypatch.undo()

    run(main())


@pytest.mark.slow
def test_I16_the_kernels_queue_overflows(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    async def main() -> None:
        async with fs.watch(tmp_path) as events:
            for n in range(limit // 2 + 100):
                path = tmp_path / str(n % 2)
                path.touch()
                path.unlink()
            kinds = [event.kind async for event in first_overflow(events)]
            assert kinds[-1] == "overflow"
            assert await until(events, tmp_path / "end") is not None

    async def first_overflow(events: FileWatch) -> Any:
        async for event in events:
            yield event
            if event.kind == "overflow":
                return

    run(main())


@pytest.mark.parametrize("name", [b"\xff\xfe", "umlaut \u00e4".encode(), b"new\nline"])
def test_I17_a_name_that_is_not_utf8(tmp_path: Path, name: bytes) -> None:
    folder = os.fsencode(tmp_path) + b"/" + name

    async def main() -> None:
        os.mkdir(folder)  # noqa: PTH102
        async with fs.watch(folder) as events:
            os.mkdir(folder + b"/" + name)  # noqa: PTH102
            event = (await take(events, 1))[0]
            assert os.fsencode(event.path) == folder + b"/" + name

    run(main())


def test_I18_at_descriptor_0(run_script: Any) -> None:
    result = run_script(
        """
        import os, tempfile
        from trale_py import block_on, fs

        async def main(folder):
            os.close(0)
            async with fs.watch(folder) as events:
                assert events._inotify.fileno() == 0
                os.mkdir(folder + "/new")
                print((await anext(events)).kind)
            try:
                os.fstat(0)
            except OSError:
                print("closed")

        async def start():
            return None
        block_on(start())
        with tempfile.TemporaryDirectory() as folder:
            block_on(main(folder))
        """
    )
    assert result.stdout == "created\nclosed\n", result.stderr


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("inotify_init", errno.EMFILE, "max_user_instances"),
        ("inotify_add_watch", errno.ENOSPC, "max_user_watches"),
    ],
)
def test_I19_a_limit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, says: str
) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(linuxfd.inotify_c, call, refuse)

    async def main() -> None:
        with pytest.raises(OSError, match=says) as raised:
            async with fs.watch(tmp_path):
                pass
        assert raised.value.errno == code

    run(main())


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            async with fs.watch(tmp_path / "nothing"):
                pass

    run(main())


def test_a_wait_that_is_cancelled_takes_no_event(tmp_path: Path) -> None:
    async def main() -> None:
        async with fs.watch(tmp_path) as events:
            with move_on_after(0.001) as scope:
                await anext(events)
            assert scope.cancelled_caught
            (tmp_path / "new").mkdir()
            assert [event.kind for event in await take(events, 1)] == ["created"]

    run(main())


def test_outside_of_its_block_it_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        events = fs.watch(tmp_path)
        assert repr(events) == f"<FileWatch '{tmp_path}' new>"
        with pytest.raises(ClosedResourceError):
            await anext(events)
        async with events:
            waiting = spawn(events.__anext__())
            await yield_now()
            await yield_now()
        with pytest.raises(ClosedResourceError):
            await waiting
        with pytest.raises(RuntimeError, match="entered"):
            async with events:
                pass

    run(main())
