"""The structure of the package: imports go down only."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path
from typing import Any

import pytest

import trale_py

PACKAGE = Path(trale_py.__file__).parent

# From the bottom up. A module imports from its own folder, and from those that stand before it.
FOLDERS = [
    "base",
    "_linux",
    "core",
    "scopes",
    "timers",
    "jobs",
    "streams",
    "sync",
    "channel",
    "net",
    "fs",
    "process",
    "scripts",
    "_asyncio",
    "tls",
    "",
]

COMPILED = {"_native", "_linux._ffi"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> set[str]:
    """Modules of the package that this one names, also those it needs for types only."""
    found = set()
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            if node.module:
                found.add(".".join([*base, node.module]))
            else:
                names = [".".join([*base, alias.name]) for alias in node.names]
                found.update(name if _is_module(name) else ".".join(base) for name in names)
    return found - COMPILED


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return name in COMPILED or path.is_dir() or path.with_suffix(".py").exists()


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def folder(module: str) -> str:
    return (
        module.partition(".")[0] if module in MODULES and MODULES[module].parent != PACKAGE else ""
    )


def test_folders_import_from_those_below() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in imports(path)
        if FOLDERS.index(folder(other)) > FOLDERS.index(folder(name))
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graphlib.TopologicalSorter(
        {name: imports(path) - {folder(name)} for name, path in MODULES.items()}
    ).prepare()


@pytest.mark.parametrize("name", [name for name in FOLDERS if name])
def test_a_folder_is_imported_alone(name: str, run_script: Any) -> None:
    result = run_script(f"import trale_py.{name}")
    assert (result.returncode, result.stderr) == (0, "")
