"""What CI runs: every step to its end, also after one that failed, and a line for each at the end.

Run:  make check        3.11 whole on both engines; later Pythons: native whole, the Python
                        engine without the slow tests
      make check-all    every Python whole on both engines, and the package

The tests run on one wheel, installed in an environment for each Python: what they prove is true
of what is shipped. When all is installed, two steps run at a time: most tests wait for something,
and none may mind that the other core is busy. Each line of output begins with its step's name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DIST = ROOT / "build" / "check"


class Step(NamedTuple):
    name: str
    command: list[str]
    environ: dict[str, str] | None = None
    prepares: bool = False  # what comes later needs it


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
    yield Step("environment", make(".venv/ready"), prepares=True)
    # A warning of the compiler is an error here, and only here.
    strict = {"TRALE_WERROR": "1"}
    yield Step("build", make("dist", f"DIST={DIST}"), strict, prepares=True)
    for n, (version, path) in enumerate(pythons()):
        venv = ROOT / f".venv-{version}"
        install = make("wheel-venv", f"PYTHON={path}", f"VENV={venv}", f"DIST={DIST}")
        yield Step(f"{version} install", install, prepares=True)
        # -u: its output comes as it goes, also through a pipe
        pytest = [str(venv / "bin" / "python"), "-u", "-m", "pytest", "-p", "no:cacheprovider"]
        yield Step(f"{version} native", pytest, {"TRALE_ENGINE": "native"})
        if everything or n == 0:
            yield Step(f"{version} python", pytest, {"TRALE_ENGINE": "python"})
        else:
            core = [*pytest, "-m", "not slow"]
            yield Step(f"{version} python, core", core, {"TRALE_ENGINE": "python"})
    yield Step("sanitizers", make("check-asan"))
    items = "1000000" if everything else "300000"
    yield Step("channels", make("check-channels", f"CHANNEL_ITEMS={items}"))
    yield Step("format, lint, types", make("check-static"))
    yield Step("C engine", make("check-c"))
    if everything:
        yield Step("package", make("check-package"))


def run(step: Step) -> tuple[bool, str]:
    """Run it to its end; whether it passed, and its line for the end of the output."""
    start = time.monotonic()
    print(f"{step.name}: {' '.join(step.command)}", flush=True)
    try:
        with subprocess.Popen(
            step.command,
            cwd=ROOT,
            env={**os.environ, **(step.environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(f"{step.name}: {line.rstrip()}", flush=True)
        passed = process.returncode == 0
    except OSError as error:
        print(f"{step.name}: {error}", flush=True)
        passed = False
    seconds = round(time.monotonic() - start)
    return passed, f"{step.name}: {'passed in' if passed else 'FAILED after'} {seconds} s"


def main(*arguments: str) -> bool:
    todo = list(steps(everything=arguments == ("all",)))
    ended = [run(step) for step in todo if step.prepares]
    with ThreadPoolExecutor(2) as pool:
        ended += pool.map(run, [step for step in todo if not step.prepares])
    print("\n--", *(line for _, line in ended), sep="\n")
    return all(passed for passed, _ in ended)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
