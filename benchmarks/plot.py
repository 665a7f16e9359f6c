"""The plot of the ratios: docs/benchmarks.svg. The same results always give the same file."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from harness import Row
from report import Results

Group = tuple[Row, dict[str, float]]  # a row, and the median ratio to each peer

STABLE = {"svg.hashsalt": "trale_py"}  # without a salt the ids are random

COLOURS = {
    "asyncio": "#4477aa",
    "asyncio Protocol": "#99bbdd",
    "uvloop": "#cc5533",
    "uvloop Protocol": "#eebb99",
    "trio": "#228833",
    "curio": "#99cc88",
    "anyio": "#aa8800",
    "gevent": "#aa3377",
    "threads": "#888888",
    "C epoll": "#222222",
    "trale_py recv_from": "#66ccee",
}

TARGET = {"marker": "D", "markersize": 4, "color": "white", "markeredgecolor": "black"}


def grouped(results: Results) -> list[Group]:
    groups = []
    for measurement, rounds in results:
        for row in measurement.rows:
            ratios = {peer: rounds.ratios(row, peer) for peer in COLOURS if peer in rounds.figures}
            bars = {peer: statistics.median(some) for peer, some in ratios.items() if some}
            if bars:
                groups.append((row, bars))
    return groups


def draw(results: Results, path: Path, subtitle: str) -> None:
    """Every row is a group of bars, one for each peer, with a mark where a target is."""
    groups = grouped(results)
    if not groups:
        return
    height = 2 + 0.15 * sum(len(bars) + 1.2 for _, bars in groups)
    figure = Figure(figsize=(10, height), layout="constrained")
    axes = figure.subplots()
    titles = {}
    at = 0.0
    for row, bars in groups:
        titles[at + (len(bars) - 1) / 2] = row.title
        for peer, ratio in bars.items():
            axes.barh(at, ratio - 1, left=1, height=0.85, color=COLOURS[peer])
            if goal := row.at_least.get(peer):
                axes.plot(goal, at, **TARGET)
            at += 1
        axes.axhline(at + 0.1, color="#dddddd", linewidth=0.8)
        at += 1.2
    axes.set(xscale="log", ylim=(at - 1, -1))
    axes.set_yticks(list(titles), titles.values(), fontsize=9)
    axes.axvline(1, color="black", linewidth=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}x"))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", top=True, labeltop=True)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("right of 1x trale_py is better, left of it the peer")
    axes.set_title(f"trale_py beside its peers\n{subtitle}", fontsize=11)
    shown = [peer for peer in COLOURS if any(peer in bars for _, bars in groups)]
    key = [Patch(color=COLOURS[peer], label=peer) for peer in shown]
    key.append(Line2D([], [], linestyle="", label="target", **TARGET))
    figure.legend(handles=key, loc="outside lower center", ncols=6, frameon=False)
    with rc_context(STABLE):
        figure.savefig(path, metadata={"Date": None})
