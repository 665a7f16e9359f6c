"""What CI runs: every step to its end, also after one that failed, and a line for each at the end.

Run:  make check        3.11 whole on both engines; later Pythons: native whole, the Python
                        engine without the slow tests
      make check-all    every Python whole on both engines, and the package

The tests run on one wheel, installed in an environment for each Python: what they prove is true
of what is shipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DIST = ROOT / "build" / "check"


class Step(NamedTuple):
    name: str
    command: list[str]
    environ: dict[str, str] | None = None


def make(target: str, *variables: str) -> list[str]:
    return ["make", "--no-print-directory", target, *variables]


def pythons() -> list[tuple[str, str]]:
    """The version and the path of one interpreter for each Python that is here."""
    found = subprocess.run([ROOT / ".ci" / "pythons"], capture_output=True, text=True, check=True)
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    if not found.stdout:
        sys.exit("no Python from 3.11 on was found")
    return [
        (subprocess.check_output([path, "-c", show], text=True).strip(), path)
        for path in found.stdout.split()
    ]


def steps(everything: bool) -> Iterator[Step]:
    yield Step("format, lint, types", make("check-static"))
    yield Step("C engine", make("check-c"))
    yield Step("sanitizers", make("check-asan"))
    items = "1000000" if everything else "300000"
    yield Step("channels", make("check-channels", f"CHANNEL_ITEMS={items}"))
    # A warning of the compiler is an error here, and only here.
    yield Step("build", make("dist", f"DIST={DIST}"), {"TRALE_WERROR": "1"})
    for n, (version, path) in enumerate(pythons()):
        venv = ROOT / f".venv-{version}"
        install = make("wheel-venv", f"PYTHON={path}", f"VENV={venv}", f"DIST={DIST}")
        yield Step(f"{version} install", install)
        # -u: its output comes as it goes, also through a pipe
        pytest = [str(venv / "bin" / "python"), "-u", "-m", "pytest"]
        yield Step(f"{version} native", pytest, {"TRALE_ENGINE": "native"})
        if everything or n == 0:
            yield Step(f"{version} python", pytest, {"TRALE_ENGINE": "python"})
        else:
            core = [*pytest, "-m", "not slow"]
            yield Step(f"{version} python, core", core, {"TRALE_ENGINE": "python"})
    if everything:
        yield Step("package", make("check-package"))


def run(step: Step) -> bool:
    environ = {**os.environ, **(step.environ or {})}
    print(f"\n-- {step.name}: {' '.join(step.command)}", flush=True)
    try:
        process = subprocess.run(step.command, cwd=ROOT, env=environ)
    except OSError as error:
        print(error)
        return False
    return process.returncode == 0


def main(*arguments: str) -> bool:
    passed, lines = True, []
    for step in steps(everything=arguments == ("all",)):
        start = time.monotonic()
        success = run(step)
        seconds = round(time.monotonic() - start)
        lines.append(f"{step.name}: {'passed in' if success else 'FAILED after'} {seconds} s")
        passed = passed and success
    print("\n--", *lines, sep="\n")
    return passed


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
