"""The C programs: compiled when first needed, into build/."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"


@cache
def program(name: str) -> str:
    """The path of a program that is up to date with its source."""
    source, binary = HERE / f"{name}.c", BUILD / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(binary)], check=True)
    return str(binary)
