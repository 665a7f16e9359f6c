"""What is said of the results: the table, and the same for results.json."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import BEFORE, OURS, Measurement, Rounds, Row, finish, python, start

Results = list[tuple[Measurement, Rounds]]


def met(row: Row, rounds: Rounds, peer: str) -> bool | None:
    """Whether the target is reached, in the two digits that are shown; None if there is none."""
    if peer == OURS and row.limit is not None:
        ours = rounds.figure(row, OURS)
        return ours <= row.limit if row.lower_is_better else ours >= row.limit
    ratios = rounds.ratios(row, peer)
    if peer not in row.at_least or not ratios:
        return None
    return round(statistics.median(ratios), 2) >= row.at_least[peer]


def target(row: Row, peer: str) -> str:
    if peer == OURS and row.limit is not None:
        return f"at {'most' if row.lower_is_better else 'least'} {row.limit:,g} {row.unit}"
    if peer in row.at_least:
        return f"at least {row.at_least[peer]:g}x"
    return ""


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(measurement: Measurement, rounds: Rounds) -> Iterator[str]:
    for row in measurement.rows:
        yield f"{row.title}, {row.unit}"
        for peer in rounds.figures:
            line = f"  {peer:19}{number(rounds.figure(row, peer)):>12}"
            if ratios := rounds.ratios(row, peer):
                spread = f"({ratios[0]:.2f}-{ratios[-1]:.2f})"
                line += f"{statistics.median(ratios):>9.2f}x {spread:15}"
            if (reached := met(row, rounds, peer)) is not None:
                line = f"{line:60} {target(row, peer):24} {'met' if reached else 'NOT MET'}"
            yield line.rstrip()
        for peer, why in rounds.missing.items():
            yield f"  {peer:19}{'-':>12}   {why}"
        yield ""


def summary(results: Results) -> Iterator[str]:
    verdicts = [
        met(row, rounds, peer)
        for measurement, rounds in results
        for row in measurement.rows
        for peer in rounds.figures
    ]
    yield f"{verdicts.count(True)} of {len(verdicts) - verdicts.count(None)} targets are met."
    for measurement, rounds in results:
        if OURS in rounds.missing:
            yield f"Nothing of {OURS} in {measurement.name}: {rounds.missing[OURS]}."


# Rounds differ by this much when nothing has changed.
NOISE = 0.98


def slower(results: Results) -> Iterator[str]:
    """The rows in which trale_py is slower than it was, in the median of the rounds."""
    for measurement, rounds in results:
        for row in measurement.rows:
            ratios = rounds.ratios(row, BEFORE) if BEFORE in rounds.figures else []
            if ratios and statistics.median(ratios) < NOISE:
                yield f"  {statistics.median(ratios):.2f}x {row.title}"


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def circumstances() -> dict[str, Any]:
    engine = "import trale_py as t; print(t.__version__, getattr(t, 'engine', 'python'))"
    ours, _, engine = finish(start(python("-P", "-c", engine))).strip().partition(" ")
    cpus = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    peers = ("uvloop", "trio", "curio", "anyio", "gevent")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} x {(cpus or ['unknown'])[0]}",
        "load": round(os.getloadavg()[0], 2),  # of others, before the first row
        "kernel": platform.release(),
        "python": platform.python_version(),
        "trale_py": ours,
        "engine": engine,
        **{package: version(package) for package in peers},
    }


def as_json(about: dict[str, Any], results: Results) -> str:
    rows = [
        {
            "name": measurement.name,
            "title": row.title,
            "unit": row.unit,
            "lower_is_better": row.lower_is_better,
            "rounds": {
                peer: [figures[row.figure] for figures in all_rounds]
                for peer, all_rounds in rounds.figures.items()
            },
            "ratios": {
                peer: rounds.ratios(row, peer)
                for peer in rounds.figures
                if rounds.ratios(row, peer)
            },
            "targets": {
                peer: {"target": target(row, peer), "met": reached}
                for peer in rounds.figures
                if (reached := met(row, rounds, peer)) is not None
            },
            "missing": rounds.missing,
        }
        for measurement, rounds in results
        for row in measurement.rows
    ]
    return json.dumps({**about, "rows": rows}, indent=1) + "\n"
