"""fs/paths.py: what is done to files by their paths, against os."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.net_helpers import run
from trale_py import block_on, fs, gather


def test_folders(tmp_path: Path) -> None:
    async def main() -> None:
        await fs.mkdir(tmp_path / "one", 0o700)
        with pytest.raises(FileExistsError):
            await fs.mkdir(tmp_path / "one")
        with pytest.raises(FileNotFoundError):
            await fs.mkdir(tmp_path / "a/b/c")
        for _ in range(2):
            await fs.mkdir(tmp_path / "a/b/c", parents=True)
        await fs.write_bytes(tmp_path / "a/b/file", b"x")
        with pytest.raises(OSError, match="not empty"):
            await fs.rmdir(tmp_path / "a")
        await fs.remove_tree(tmp_path / "a")
        await fs.rmdir(tmp_path / "one")
        assert await fs.listdir(tmp_path) == []

    block_on(main())


def test_the_whole_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        for data in (b"", b"x" * 300_000, bytearray(b"array"), memoryview(b"view")[1:]):
            await fs.write_bytes(path, data)
            assert await fs.read_bytes(path) == bytes(data)
        with pytest.raises(TypeError, match="data must be bytes-like, not str"):
            await fs.write_bytes(path, "text")  # type: ignore[arg-type]
        with pytest.raises(OSError, match="No space left"):
            await fs.write_bytes("/dev/full", b"x")
        assert b"Name:" in await fs.read_bytes("/proc/self/status")  # whose size is 0

    block_on(main())


def test_names_and_links(tmp_path: Path) -> None:
    async def main() -> None:
        one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
        await fs.write_bytes(one, b"1")
        await fs.write_bytes(two, b"2")
        await fs.rename(one, two)
        assert two.read_bytes() == b"1"
        assert not await fs.exists(one)
        await fs.link(two, one)
        assert (await fs.stat(one)).st_nlink == 2
        await fs.symlink("two", three)
        assert await fs.readlink(three) == "two"
        assert await fs.readlink(os.fsencode(three)) == b"two"
        assert (await fs.stat(three)).st_ino == (await fs.lstat(two)).st_ino
        assert (await fs.lstat(three)).st_ino != (await fs.stat(three)).st_ino
        await fs.chmod(two, 0o640)
        assert (await fs.stat(two)).st_mode & 0o777 == 0o640
        await fs.utime(two, (1.0, 2.5))
        assert (await fs.stat(two)).st_mtime == 2.5
        await fs.remove(two)
        await fs.remove(one)
        assert [await fs.exists(three), await fs.is_file(three)] == [False, False]
        with pytest.raises(FileNotFoundError):
            await fs.remove(two)

    block_on(main())


@pytest.mark.parametrize("name", ["exists", "is_file", "is_dir"])
@pytest.mark.parametrize("what", ["file", "folder", "nothing", "file/x", "to file", "to folder"])
def test_what_there_is(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to file").symlink_to("file")
    (tmp_path / "to folder").symlink_to("folder")
    found = block_on(getattr(fs, name)(tmp_path / what))
    assert found is getattr(tmp_path / what, name)()


def test_exists_does_not_hide_other_errors(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        block_on(fs.exists(loop))


def test_what_is_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()

    async def main() -> None:
        assert sorted(await fs.listdir(tmp_path)) == ["file", "folder"]
        assert sorted(await fs.listdir(os.fsencode(tmp_path))) == [b"file", b"folder"]
        entries = await fs.scandir(tmp_path)
        assert {entry.name: entry.is_dir() for entry in entries} == {"file": False, "folder": True}

    block_on(main())


def test_many_at_once_are_made_by_a_few_threads(tmp_path: Path) -> None:
    paths = [tmp_path / str(n) for n in range(200)]
    for path in paths:
        path.write_bytes(path.name.encode())

    async def main() -> tuple[bytes, ...]:
        return await gather(*map(fs.read_bytes, paths))

    assert run(main()) == tuple(path.name.encode() for path in paths)
    names = [thread.name for thread in threading.enumerate()]
    assert 0 < sum(name.startswith("trale-files") for name in names) <= 16


def test_it_is_loaded_at_its_first_use(run_script: Any) -> None:
    result = run_script(
        """
        import sys
        import trale_py
        before = {"trale_py.fs", "shutil"} & set(sys.modules)
        assert not before, before
        print(trale_py.block_on(trale_py.fs.exists("/")))
        """
    )
    assert result.stdout == "True\n", result.stderr
