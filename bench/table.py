"""Results as a table for a terminal: medians, spreads, and ratios taken within the round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from bench import cases, summary
from bench.summary import Line

#: What ratios are taken to, and the heading of each: a plainly written loop, and the hub without features.
YARDSTICKS = {"pyzmq": "x pyzmq", "pyzmq-hub": "x hub"}
#: Processors kept busy by others from which a run is called disturbed.
DISTURBED = 0.15

HEADINGS = (
    "calls/s", "spread", "p50 us", "p99 us", "p99.9 us", "CPU us/call", "server", "client", "ZeroMQ's",
    *(f"rate {heading}" for heading in YARDSTICKS.values()), *(f"CPU {heading}" for heading in YARDSTICKS.values()),
)  # fmt: skip
#: Of a call: all of it, by process, and the part of both that ZeroMQ's own threads take.
CPU = ("cpu_us", "server_cpu_us", "client_cpu_us", "zmq_cpu_us")
START_HEADINGS = ("first answer s", "MiB idle", "MiB after", "broker MiB")


def number(value: float, digits: int = 0) -> str:
    """With thousands parted; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def row(found: dict[tuple[str, str], dict[int, Line]], case: str, subject: str) -> list[str]:
    """The cells of one subject in one case."""
    rounds = found[case, subject]
    cells = {name: summary.median(line[name] for line in rounds.values()) for name in (*summary.PERCENTILES, "rate")}
    cpu = [summary.median(line.get(name, math.nan) for line in rounds.values()) for name in CPU]
    compared = [
        number(summary.median(summary.ratios(rounds, found.get((case, yardstick), {}), metric)), 2)
        for metric in ("rate", "cpu_us")
        for yardstick in YARDSTICKS
    ]
    return [
        number(cells["rate"]),
        percent(summary.spread(line["rate"] for line in rounds.values())),
        *(number(cells[name]) for name in summary.PERCENTILES),
        *(number(value, 1) for value in cpu),
        *compared,
    ]


def start_row(rounds: dict[int, Line]) -> list[str]:
    """The cells of one subject's start."""
    return [
        number(summary.median(line["first_answer_s"] for line in rounds.values()), 3),
        *(
            number(summary.median(line[name] for line in rounds.values()), 0)
            for name in ("idle_rss_mb", "server_rss_mb", "broker_rss_mb")
        ),
    ]


def tables(lines: Sequence[Line]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """For each case: its title, headings and rows, the subjects in the order in which they were measured."""
    found = summary.measured(lines)
    for name, case in cases.ALL.items():
        subjects = [subject for at, subject in found if at == name]
        if not subjects:
            continue
        if case.is_start:
            rows = [[subject, *start_row(found[name, subject])] for subject in subjects]
            yield case.title, ["", *START_HEADINGS], rows
        else:
            yield case.title, ["", *HEADINGS], [[subject, *row(found, name, subject)] for subject in subjects]


def grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text, the first to the left and the others to the right."""
    whole = [list(headings), *map(list, rows)]
    widths = [max(len(line[column]) for line in whole) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in whole
    )


def where(lines: Sequence[Line]) -> list[str]:
    """A sentence or two on where, with what and how quietly it was measured."""
    if not lines:
        return []
    last = lines[-1]
    machine, libraries = last["machine"], ", ".join(f"{name} {version}" for name, version in last["libraries"].items())
    commits = list(dict.fromkeys(str(line.get("commit")) for line in lines))
    rounds = len({line["round"] for line in lines if "round" in line})
    repeated = f"; {rounds} rounds, medians; ratios within the round" if rounds else ""
    days = list(dict.fromkeys(line["day"] for line in lines if "day" in line))
    measured = f"Measured on {' and '.join(days)}: " if days else ""
    told = [
        f"{measured}{machine['cores']} cores, {machine['processor']}, {machine['system']}; Python {last['python']}, {libraries}; "
        f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}{repeated}."
    ]
    disturbance = summary.median(line["others_cores"] + line["stolen_cores"] for line in lines if "others_cores" in line)
    if disturbance > DISTURBED:
        told.append(
            f"The machine was NOT quiet: {disturbance:.2f} cores were busy with other things or taken by its host. "
            "Trust no absolute figure."
        )
    return told


def text(lines: Sequence[Line]) -> str:
    """Everything, what failed too."""
    parts = [f"{title}\n{grid(headings, rows)}" for title, headings, rows in tables(lines)]
    for subject, reasons in summary.failures(lines).items():
        parts.append(f"{subject}: NOT MEASURED: {'; '.join(reasons)}")
    return "\n\n".join([*parts, *where(lines)])
