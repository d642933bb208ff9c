"""The columns of `zmqservices top`, and the choice of those that fit into a width. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from zmqservices.cli.cluster_rows import GONE, SILENT, ClusterRow
from zmqservices.log_helpers import escaped


class Column(NamedTuple):
    """A column. If there is no room, the columns with the highest `rank` are left out first; those with rank 0 never."""

    title: str
    text: Callable[[ClusterRow], str]
    rank: int = 0
    is_number: bool = True


def _name(row: ClusterRow) -> str:
    return f"  {row.instance}" if row.instance else row.service


def rate(value: float | None) -> str:
    """A rate per second, in about three digits; "-" if it is not known."""
    return "-" if value is None else f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """A time in short: 0.04 ms, 12 ms, 1.5 s, 3 min, 2 h, 5 d; "-" if it is not known."""
    if seconds is None:
        return "-"
    if 0 < seconds < 0.0001:
        return f"{max(seconds * 1000, 0.01):.2f} ms"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def count(value: int | None) -> str:
    """A whole number; "-" if it is not known."""
    return "-" if value is None else str(value)


#: All columns, from left to right.
COLUMNS = (
    Column("SERVICE", _name, is_number=False),
    Column("STATE", lambda row: row.state, is_number=False),
    Column("HOST", lambda row: row.host, 9, is_number=False),
    Column("CALLS/S", lambda row: rate(row.rate)),
    Column("P50", lambda row: duration(row.p50), 7),
    Column("P99", lambda row: duration(row.p99), 1),
    Column("IN FLIGHT", lambda row: count(row.in_flight), 3),
    Column("QUEUE", lambda row: count(row.queue), 4),
    Column("OLDEST", lambda row: duration(row.oldest), 3),
    Column("ERRORS/S", lambda row: rate(row.error_rate), 2),
    Column("ERRORS", lambda row: count(row.errors), 6),
    Column("BACKLOG", lambda row: count(row.backlog) if not row.instance else "", 5),
    Column("DEAD", lambda row: count(row.dead_letters) if not row.instance else "", 8),
    Column("UP FOR", lambda row: duration(row.uptime), 10),
    Column("VERSION", lambda row: row.version or "-", 11, is_number=False),
)

#: Spaces between two columns.
GAP = 2

#: The first column is not made narrower than this before others are left out: people need the whole id of an instance.
LEAST_NAME = 14


def fitting(rows: Sequence[ClusterRow], width: int) -> list[tuple[Column, int]]:
    """The columns that fit into `width`, each with its own width. Cuts the first column if even those of rank 0 do not fit."""
    columns = list(COLUMNS)
    while True:
        widths = [max(len(column.title), *(len(escaped(column.text(row))) for row in rows), 0) for column in columns]
        spare = width - sum(widths) - GAP * (len(widths) - 1)
        least = min(widths[0], LEAST_NAME)
        most = max(columns, key=lambda column: column.rank)
        if spare >= 0:
            return list(zip(columns, widths, strict=True))
        # Cut long names before a column is left out, but not too far.
        if widths[0] + spare >= max(least, widths[0] // 2) or not most.rank:
            widths[0] = max(widths[0] + spare, 1)
            return list(zip(columns, widths, strict=True))
        columns.remove(most)


def cells(row: ClusterRow, columns: Sequence[tuple[Column, int]]) -> list[str]:
    """The texts of one row, padded to the widths of their columns."""
    return [_cell(escaped(column.text(row)), width, column.is_number) for column, width in columns]


def titles(columns: Sequence[tuple[Column, int]]) -> list[str]:
    """The titles of the columns, padded to their widths."""
    return [_cell(column.title, width, column.is_number) for column, width in columns]


def _cell(text: str, width: int, is_number: bool) -> str:
    text = text if len(text) <= width else f"{text[: width - 1]}…"
    return text.rjust(width) if is_number else text.ljust(width)


def style_of(row: ClusterRow) -> str:
    """The style of a row: "bad", "warning", "service" or ""."""
    if row.state in (GONE, SILENT) or not row.instances:
        return "bad"
    if not row.instance:
        return "service"
    return "" if row.state == "UP" else "warning"


def plain(rows: Sequence[ClusterRow]) -> str:
    """All columns of all rows as text, for scripts and pipes."""
    columns = fitting(rows, 10_000)
    lines = [titles(columns), *(cells(row, columns) for row in rows)]
    return "\n".join((" " * GAP).join(line).rstrip() for line in lines)
