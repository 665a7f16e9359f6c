"""What a build lacks, if it is a compiler or Python's header files; linuxfd needs the same."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path


def missing() -> str:
    """One sentence, with the remedy; empty if nothing is missing."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    lacks = []
    if shutil.which(compiler) is None:
        lacks.append(f"a C compiler ({compiler})")
    if not header.exists():
        lacks.append(f"Python's header files ({header})")
    if not lacks:
        return ""
    return (
        f"trale_py and linuxfd are partly written in C; not found: {' and '.join(lacks)}. "
        "On Debian and Ubuntu: apt install gcc python3-dev"
    )


if __name__ == "__main__" and (sentence := missing()):
    print(sentence)
