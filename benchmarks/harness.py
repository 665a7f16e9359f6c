"""Runs contenders in turn, each in a process of its own, and compares them round by round.

Machines are shared and noisy. What disturbs one contender of a round disturbs the next one
too, so a ratio is taken within a round, and of all rounds the median is what counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from programs import HERE, program

OURS = "trale_py"
C_EPOLL = "C epoll"  # epoll_server.c: what the machine and the kernel can do
BEFORE = "before"  # trale_py in another checkout, see run.py --against
PATIENCE = 600  # seconds; a million sleepers take some of them a minute

Figures = dict[str, float]
Cpus = set[int] | None  # where a process may run; None: anywhere

cpus: dict[str, Cpus] = {"server": None, "client": None}

# Where contenders stand that are not this directory's; see checkout.py.
checkouts: dict[str, Path] = {}


def pin() -> None:
    """From now on the load generator has the last CPU, and idle scripts' servers the others.

    The scheduler puts a server and its client on one CPU or on two as it likes. Waking across
    CPUs costs far more, in a virtual machine above all, so without this a row may compare
    places instead of contenders. The price: on two CPUs a server's threads have one.
    """
    *rest, last = sorted(os.sched_getaffinity(0))
    if rest:
        cpus.update(server=set(rest), client={last})


@dataclass(frozen=True)
class Row:
    """A line of the table: one figure of a measurement, of all contenders."""

    title: str
    figure: str
    unit: str
    lower_is_better: bool = False
    at_least: Mapping[str, float] = field(default_factory=dict)  # ratio to each peer
    limit: float | None = None  # what our own figure has to reach, whatever the peers'
    ratios: bool = True  # whether it makes sense to divide these figures
    of_rounds: Callable[[Iterable[float]], float] = statistics.median


@dataclass(frozen=True)
class Measurement:
    """What is done to each contender in each round, and the rows that come of it."""

    name: str
    contenders: Sequence[str]
    measure: Callable[[str], Figures]
    rows: Sequence[Row]


@dataclass
class Rounds:
    """What came of a measurement: for each contender its figures, round by round."""

    figures: dict[str, list[Figures]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def figure(self, row: Row, contender: str) -> float:
        return row.of_rounds(figures[row.figure] for figures in self.figures[contender])

    def ratios(self, row: Row, peer: str) -> list[float]:
        """Above 1, ours is better. In order; none if they would mean nothing."""
        if peer == OURS or OURS not in self.figures:
            return []
        pairs = zip(self.figures[OURS], self.figures[peer], strict=True)
        both = [(ours[row.figure], theirs[row.figure]) for ours, theirs in pairs]
        if not row.ratios or any(figure <= 0 for pair in both for figure in pair):
            return []
        return sorted(b / a if row.lower_is_better else a / b for a, b in both)


class Missing(Exception):
    """This contender is not installed, or does not have what is measured."""


class Failed(Exception):
    """A contender or the load generator broke down; the text is what it said."""


def run(measurement: Measurement, rounds: int) -> Rounds:
    """Every contender in every round, in turn; those that cannot do it are left out."""
    done = Rounds({contender: [] for contender in measurement.contenders})
    for number in range(rounds):
        order = list(done.figures)
        for contender in reversed(order) if number % 2 else order:
            try:
                done.figures[contender].append(measurement.measure(contender))
            except (Missing, Failed) as error:
                done.missing[contender] = str(error)
                del done.figures[contender]
    return done


def start(command: Sequence[str], where: Cpus = None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if where:
        os.sched_setaffinity(process.pid, where)  # before it has a second thread
    return process


def finish(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {PATIENCE} s") from None
    finally:
        process.kill()
        process.communicate()
    if process.returncode:
        raise Failed(err.strip().rpartition("\n")[2] or f"exit status {process.returncode}")
    return out


def python(*args: str) -> list[str]:
    return [sys.executable, *args]


def contender(name: str, what: str, *args: Any) -> list[str]:
    if name not in checkouts:
        return python(str(HERE / "contender.py"), name, what, json.dumps(args))
    root = checkouts[name]
    script = str(root / "benchmarks" / "contender.py")
    return [
        "env",
        f"PYTHONPATH={root / 'installed'}",
        *python(script, OURS, what, json.dumps(args)),
    ]


def said(line: str) -> dict[str, Any]:
    what: dict[str, Any] = json.loads(line)
    if "missing" in what:
        raise Missing(what["missing"])
    return what


def inside(what: str, args: Sequence[float], name: str) -> Figures:
    """The figures of a piece of work.py, in a process of its own."""
    return said(finish(start(contender(name, what, *args))))


@contextmanager
def server(name: str, protocol: str, main: str = "idle") -> Iterator[tuple[int, int]]:
    """A contender that serves: its port and its process id."""
    if name == C_EPOLL:
        command = [program("epoll_server"), protocol]
    else:
        command = contender(name, "serve", protocol, main)
    process = start(command, cpus["server"] if main == "idle" else None)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            finish(process)
        yield said(line)["port"], process.pid
    except Failed:
        if process.poll() is not None:
            finish(process)  # it broke down first, and this raises what it said
        raise
    finally:
        process.kill()
        process.communicate()


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[None]:
    """So many connections to a server, all of which it has accepted."""
    process = start([program("load"), "idle", str(port), f"-c{count}"])
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "connected\n":
            finish(process)
        yield
    finally:
        process.communicate()


def load(kind: str, *args: str, **options: float) -> Figures:
    """The load generator's figures; the options are its own, by letter."""
    flags = [f"-{letter}{value}" for letter, value in options.items()]
    process = start([program("load"), kind, *args, *flags], cpus["client"])
    figures: Figures = json.loads(finish(process))
    return figures
