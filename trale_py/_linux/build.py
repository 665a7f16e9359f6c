"""How ``_ffi`` is compiled: setup.py hands this file's ``ffi`` to cffi. Not for run time."""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

HERE = Path("trale_py", "_linux")  # from the project's root, where builds run
DECLARATIONS = (HERE / "declarations.h").read_text()

# A compiler newer than ours may warn of more, and that must not break an installation.
# "make check" sets this, so that no warning is left here.
STRICT = ["-Werror"] if os.environ.get("TRALE_WERROR") else []

ffi = FFI()
ffi.cdef(DECLARATIONS)
ffi.set_source(
    "trale_py._linux._ffi",
    DECLARATIONS,
    sources=[str(HERE / "batch.c"), str(HERE / "clock_timer.c"), str(HERE / "signals.c")],
    depends=[str(HERE / "declarations.h")],
    extra_compile_args=["-std=c11", "-Wall", "-Wextra", *STRICT],
    py_limited_api=True,
)
