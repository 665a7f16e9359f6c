"""The benchmarks: trale_py beside its peers.

    make bench      or      .venv/bin/python benchmarks/run.py [--rounds 5] [--only tcp,spawn-join]
    python benchmarks/run.py --quick --rounds 7 --against HEAD~1

Prints, for each row, everybody's median and how trale_py compares: above 1x it is better,
whatever the unit; in brackets the worst and the best round. The results and a plot are written to
benchmarks/build/, or wherever --output says; with --publish, which is for a run of everything, to
benchmarks/results.json and docs/benchmarks.svg, whose figures README.md quotes.

With --against the only peer is trale_py as it was at that commit, and the command fails if a row
fell below 0.98x of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import report
from checkout import checkout
from harness import BEFORE, OURS, Measurement, checkouts, pin, run
from programs import BUILD, HERE
from rows import FULL, QUICK, Scale, guest, idle, sleep, spawn, sync, tcp, udp

FAMILIES = [tcp, udp, spawn, sync, sleep, idle, guest]


def chosen(scale: Scale, only: str | None, peers: str | None) -> Iterator[Measurement]:
    for family in FAMILIES:
        for measurement in family.measurements(scale):
            if only and not measurement.name.startswith(tuple(only.split(","))):
                continue
            if peers:
                names = [name for name in measurement.contenders if name in peers.split(",")]
                measurement = dataclasses.replace(measurement, contenders=names)
            elif BEFORE in checkouts:
                measurement = dataclasses.replace(measurement, contenders=[OURS, BEFORE])
            yield measurement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="5, or 1 with --quick")
    parser.add_argument("--only", metavar="NAMES", help="rows that begin so: tcp,udp-flood")
    parser.add_argument("--peers", metavar="NAMES", help="trale_py,asyncio")
    parser.add_argument(
        "--pin", action="store_true", help="client and servers on CPUs of their own"
    )
    parser.add_argument("--against", metavar="COMMIT", help="compare with trale_py at that commit")
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    parser.add_argument("--output", metavar="DIRECTORY", type=Path, help="for results and plot")
    parser.add_argument("--publish", action="store_true", help="replace the results in the history")
    args = parser.parse_args()
    if args.publish and (args.quick or args.only or args.peers or args.against or args.output):
        parser.error("--publish is for a run of everything")
    if args.pin:
        pin()

    if args.against:
        checkouts[BEFORE] = checkout(args.against)
    about = {**report.circumstances(), "pinned": args.pin}
    print(*(f"{what}: {value}" for what, value in about.items()), "", sep="\n", flush=True)
    results: report.Results = []
    for measurement in chosen(QUICK if args.quick else FULL, args.only, args.peers):
        rounds = run(measurement, args.rounds or (1 if args.quick else 5))
        results.append((measurement, rounds))
        print(*report.table(measurement, rounds), sep="\n", flush=True)
    if not results:
        sys.exit(f"no row is called {args.only}")
    print(*report.summary(results), sep="\n")
    if args.against:
        slower = list(report.slower(results))
        sys.exit("\n".join(["Slower than before:", *slower]) if slower else 0)

    BUILD.mkdir(exist_ok=True)
    data = plots = args.output or BUILD
    if args.publish:
        data, plots = HERE, HERE.parent / "docs"
    data.mkdir(parents=True, exist_ok=True)
    (data / "results.json").write_text(report.as_json(about, results))
    try:
        import plot
    except ModuleNotFoundError as error:
        print(f"No plot: {error.name} is not installed.")
        return
    subtitle = "{engine} engine, Python {python}, {machine}".format(**about)
    plot.draw(results, plots / "benchmarks.svg", subtitle)


if __name__ == "__main__":
    main()
