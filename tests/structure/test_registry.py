"""core/engine.py: which engine is used, and what C needs of Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

import trale_py
from tests.conftest import ROOT
from trale_py.core.engine import native

Package = Callable[..., subprocess.CompletedProcess[str]]

built = pytest.mark.skipif(native is None, reason="there is no native engine")
PACKAGE = Path(trale_py.__file__).parent
UNSET = ("TRALE_ENGINE", "TRALE_PURE", "PYTHONSAFEPATH")
SHOW = "import trale_py; print(trale_py.engine)"


def run(path: Path, source: str = SHOW, **environ: str) -> subprocess.CompletedProcess[str]:
    """In the folder ``path``; without site, as an editable install finds the package elsewhere."""
    clean = {k: v for k, v in os.environ.items() if k not in UNSET}
    clean["PYTHONPATH"] = sysconfig.get_path("purelib")
    return subprocess.run(
        [sys.executable, "-S", "-B", "-W", "always", "-c", source],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **environ},
        cwd=path,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package in another place, for a test to change."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "trale_py", ignore=ignore)
    return tmp_path


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return result.stderr.strip().splitlines()[-1]


# -- which one -----------------------------------------------------------------------------------


@built
@pytest.mark.parametrize(
    ("environ", "engine"),
    [
        ({}, "native"),
        ({"TRALE_PURE": ""}, "native"),
        ({"TRALE_PURE": "0"}, "native"),
        ({"TRALE_PURE": "1"}, "python"),
        ({"TRALE_ENGINE": ""}, "native"),
        ({"TRALE_ENGINE": "native"}, "native"),
        ({"TRALE_ENGINE": "native", "TRALE_PURE": "0"}, "native"),
        ({"TRALE_ENGINE": "python"}, "python"),
        ({"TRALE_ENGINE": "python", "TRALE_PURE": "1"}, "python"),
    ],
)
def test_the_environment_chooses(environ: dict[str, str], engine: str) -> None:
    result = run(PACKAGE.parent, **environ)
    assert (result.stdout.strip(), result.stderr) == (engine, "")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TRALE_ENGINE": "native", "TRALE_PURE": "1"}, "contradict"),
        ({"TRALE_ENGINE": "pure"}, "TRALE_ENGINE is 'pure'; it must be 'native' or 'python'"),
        ({"TRALE_ENGINE": "Native"}, "TRALE_ENGINE is 'Native'"),
        ({"TRALE_PURE": "yes"}, "TRALE_PURE is 'yes'; it must be '1'"),
        ({"TRALE_ENGINE": "python", "TRALE_PURE": "no"}, "TRALE_PURE is 'no'"),
    ],
)
def test_what_makes_no_sense_fails_the_import(environ: dict[str, str], message: str) -> None:
    result = run(PACKAGE.parent, **environ)
    assert result.returncode == 1
    assert last_line(result).startswith("ImportError: ")
    assert message in last_line(result)


def broken_extension(package: Path) -> None:
    for built in (package / "trale_py").glob("_native*.so"):
        built.unlink()
    (package / "trale_py" / "_native.abi3.so").write_bytes(b"not one")


def test_an_extension_that_cannot_be_loaded_is_told_with_the_cause(copy: Path) -> None:
    broken_extension(copy)
    result = run(copy)
    assert result.stdout.strip() == "python"
    warning = [line for line in result.stderr.splitlines() if "RuntimeWarning" in line]
    assert len(warning) == 1
    assert "trale_py uses its Python engine, as the native one cannot be loaded: " in warning[0]
    assert "_native.abi3.so" in warning[0]


@pytest.mark.parametrize("environ", [{"TRALE_PURE": "1"}, {"TRALE_ENGINE": "python"}])
def test_an_extension_that_nobody_asked_for_is_not_loaded(
    copy: Path, environ: dict[str, str]
) -> None:
    broken_extension(copy)
    result = run(copy, **environ)
    assert (result.stdout.strip(), result.stderr) == ("python", "")


def test_without_an_extension_there_is_nothing_to_say(copy: Path) -> None:
    for built in (copy / "trale_py").glob("_native*.so"):
        built.unlink()
    result = run(copy)
    assert (result.stdout.strip(), result.stderr) == ("python", "")


@pytest.mark.parametrize("there", [True, False])
def test_the_native_engine_must_hold(copy: Path, there: bool) -> None:
    broken_extension(copy)
    if not there:
        (copy / "trale_py" / "_native.abi3.so").unlink()
    result = run(copy, TRALE_ENGINE="native")
    assert result.returncode == 1
    assert last_line(result).startswith("ImportError: TRALE_ENGINE=native, but it cannot be loaded")


# -- what C needs of Python -------------------------------------------------------------------


@built
@pytest.mark.parametrize(
    ("file", "old", "new", "missing"),
    [
        ("core/task.py", r"settle\(", "finish(", "executor.c uses Task._settle,"),
        (
            "core/task.py",
            r"def _poll\(self",
            "def _step(self",
            "task.c uses Task._poll,",
        ),
        ("core/task.py", "BUDGET = 128", "BUDGET = 64", "has 128 for trale_py.core.task.BUDGET"),
        ("core/task.py", r"_throw\b", "_raise", "Task._raise is in Python only"),
        (
            "core/task.py",
            '"_started"',
            '"_begun", "_started"',
            "Task._begun is in Python only",
        ),
        ("core/runtime.py", "forget", "drop", "executor.c uses Runtime.forget,"),
        ("core/runtime.py", r"self\._tasks", "self._all", "Runtime._tasks is in C only"),
        (
            "core/executor.py",
            "_end_child",
            "_leave",
            "executor.c uses Executor._end_child,",
        ),
        ("core/current.py", "default: ", "first: ", "uses trale_py.core.current.default,"),
        (
            "core/run_queue.py",
            "make_published",
            "do",
            "uses trale_py.core.run_queue.make_published,",
        ),
        ("core/poller.py", "BATCH = 256", "BATCH = 64", "has 256 for trale_py.core.poller.BATCH"),
        ("core/join.py", "_check_awaitable", "_may_wait", "uses JoinHandle._check_awaitable,"),
        ("streams/descriptor.py", r"_attach\(", "_join(", "Descriptor._attach,"),
        ("core/executor.py", r"_poll\b", "_turn", "Executor._poll is in C only"),
        ("core/source.py", "class Dir", "@accelerated\nclass Dir", "Direction is not in C: "),
        ("core/waker.py", "will_wake", "wakes", "Waker.will_wake is in C only"),
        ("sync/semaphore_core.py", "_count", "_free", "SemaphoreCore._count is in C only"),
        ("sync/lock_core.py", "_try_lock", "_try", "GuardCore._try_lock is in C only"),
        (
            "sync/lock_core.py",
            "_dropped",
            "_lost",
            "lock_core.c uses GuardCore._dropped,",
        ),
    ],
)
def test_a_name_that_is_missing_fails_the_import(
    copy: Path, file: str, old: str, new: str, missing: str
) -> None:
    path = copy / "trale_py" / file
    source = path.read_text()
    path.write_text(re.sub(old, new, source))
    assert path.read_text() != source
    result = run(copy, "import trale_py, trale_py.channel")
    assert result.returncode == 1
    assert last_line(result).startswith("ImportError: ")
    assert missing in last_line(result)


def test_C_names_nothing_of_Python_but_in_its_tables() -> None:
    by_name = re.compile(r"PyObject_CallMethod\(|PyImport_|GetAttrString\(|InternFromString\(")
    wrong = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "native").rglob("*.c")
        if path.name not in ("registry.c", "module.c")
        for line in path.read_text().splitlines()
        if by_name.search(line)
    ]
    assert wrong == []


def test_the_table_of_what_is_where_is_complete() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    section = text[text.index("## The same in C") : text.index("What is different there:")]
    named = set(re.findall(r"`([\w/]+\.(?:c|h|py))`", section))
    in_python = {name for name in named if name.endswith(".py")} - {"core/engine.py"}
    assert named - in_python >= {path.name for path in (ROOT / "native").rglob("*.c")}
    package = ROOT / "trale_py"
    assert {name for name in in_python if not name.startswith("tests/")} == {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^@accelerated\b", path.read_text(), re.MULTILINE)
    }


def test_a_C_file_has_the_name_of_its_class_or_of_its_Python_file() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| (`\w+\.c`[^|]*)\| ([^|]*`\w+/\w+\.py`[^|]*)\|", text, re.MULTILINE)
    assert len(rows) > 20
    for files, counterparts in rows:
        names = {*re.findall(r"\w+", counterparts)}
        allowed = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in names} | {"finalizers"}
        for name in re.findall(r"`(\w+)\.c`", files):
            assert any(name == one or name.startswith(f"{one}_") for one in allowed), name
