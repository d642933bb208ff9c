"""Plots of results, as SVG files that a page shows. Needs matplotlib: `pip install 'zmqservices[bench]'`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import cases, growth, soak, summary, table

Lines = Sequence[dict[str, Any]]

#: The colours of our own subjects, of the limits, and of the peers.
OURS, LIMIT, PEER = "#1f77b4", "#7f7f7f", "#d9a441"
#: The size of a plot in inches.
SIZE = (8.0, 4.0)
#: The cases whose rates are plotted.
DRAWN = ("64", "1", "64k", "1m")


class NoMatplotlib(Exception):
    """Plots need matplotlib, which is not installed."""


def draw(lines: Lines, folder: Path) -> dict[str, str]:
    """Plot the results. Returns the names of the files, and a title for each. Raises NoMatplotlib."""
    try:
        import matplotlib
    except ImportError as exc:
        raise NoMatplotlib("matplotlib is not installed: pip install 'zmqservices[bench]'") from exc
    matplotlib.use("Agg")
    # The same lines give the same bytes, so that a page that did not change is no change.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    made: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in DRAWN:
        _keep(made, folder, f"bench-rate-{name}.svg", cases.ALL[name].title, _bars(lines, name))
    for axis, title in growth.TITLES.items():
        _keep(made, folder, f"bench-growth-{axis}.svg", f"CPU per call and memory by {title}", _growth(lines, axis))
    _keep(made, folder, "bench-openloop.svg", "Goodput and latency as more calls arrive than can be served", _openloop(lines))
    _keep(made, folder, "bench-soak.svg", "Memory, greenlets and files during a soak", _soak(lines))
    return made


def _keep(made: dict[str, str], folder: Path, name: str, title: str, plot: Callable[[Any], None] | None) -> None:
    if plot is None:
        return
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=SIZE, layout="constrained")
    plot(figure)
    figure.savefig(folder / name, metadata={"Date": None})
    pyplot.close(figure)
    made[name] = title


def _bars(lines: Lines, case: str) -> Callable[[Any], None] | None:
    from bench import subjects

    found = {subject: list(rounds.values()) for (name, subject), rounds in summary.measured(lines).items() if name == case}
    if not found:
        return None
    rates = {subject: summary.median(line["rate"] for line in rounds) for subject, rounds in found.items()}
    ordered = sorted(rates, key=rates.__getitem__)

    def plot(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        colours = [OURS if name in subjects.OURS else LIMIT if name in subjects.LIMITS else PEER for name in ordered]
        left.barh(ordered, [rates[name] for name in ordered], color=colours)
        left.set_xlabel("calls/s")
        cpu = [summary.median(line["cpu_us"] for line in found[name]) for name in ordered]
        right.barh(ordered, cpu, color=colours)
        right.set_xlabel("CPU us per call, all sides")
        for axes, values in ((left, [rates[name] for name in ordered]), (right, cpu)):
            axes.bar_label(axes.containers[0], [table.number(value) for value in values], padding=2, fontsize=7)
            axes.margins(x=0.2)

    return plot


def _growth(lines: Lines, axis: str) -> Callable[[Any], None] | None:
    found = [line for line in lines if line["kind"] == "growth" and line["axis"] == axis and "failed" not in line]
    if not found:
        return None
    numbers = sorted({line["number"] for line in found})

    def middle(name: str) -> list[float]:
        return [summary.median(line[name] for line in found if line["number"] == number) for number in numbers]

    def plot(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for name, label in (("server_cpu_us", "server"), ("client_cpu_us", "client")):
            left.plot(numbers, middle(name), marker="o", label=label)
        left.set_ylabel("CPU us per call")
        for name, label in (("server_rss_mb", "server"), ("client_rss_mb", "client")):
            right.plot(numbers, middle(name), marker="o", label=label)
        right.set_ylabel("resident MiB")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.set_xlabel(axis)
            axes.legend(frameon=False)

    return plot


def _openloop(lines: Lines) -> Callable[[Any], None] | None:
    ours = (line for line in lines if line["kind"] == "openloop" and line["subject"] == "zmqservices" and "failed" not in line)
    found = sorted(ours, key=lambda line: line["rate"])
    if not found:
        return None

    def plot(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        rates = [line["rate"] for line in found]
        left.plot(rates, rates, color=LIMIT, linestyle=":", label="offered")
        left.plot(rates, [line["goodput"] for line in found], marker="o", color=OURS, label="answered in time")
        left.axvline(found[0]["saturating_rate"], color=PEER, label="saturation")
        left.set_ylabel("calls/s")
        left.legend(frameon=False)
        for name, label in (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")):
            right.plot(rates, [line[name] / 1e3 for line in found], marker="o", label=label)
        right.set_yscale("log")
        right.set_ylabel("ms from when a call was due")
        right.legend(frameon=False)
        for axes in (left, right):
            axes.set_xlabel("calls due per second")

    return plot


def _soak(lines: Lines) -> Callable[[Any], None] | None:
    found = soak.samples(list(lines))
    if len(found) < 2:
        return None

    def plot(figure: Any) -> None:
        grids = figure.subplots(2, 2, sharex=True).flat
        minutes = [line["passed"] / 60 for line in found]
        shown = (("rss_mb", "resident MiB"), ("greenlets", "greenlets"), ("files", "files"), ("objects", "gc objects"))
        for axes, (name, label) in zip(grids, shown, strict=True):
            for side in soak.SIDES:
                axes.plot(minutes, [line[side][name] for line in found], label=side)
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False)
        figure.supxlabel("minutes")

    return plot
