"""The C programs: compiled when first needed, into build/."""

from __future__ import annotations

import os
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
        # Under a name of its own first: two processes may come here at once.
        fresh = BUILD / f"{name}.{os.getpid()}"
        subprocess.run(["gcc", *flags, str(source), "-o", str(fresh)], check=True)
        fresh.rename(binary)
    return str(binary)
