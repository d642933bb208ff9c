"""Results as a page of reStructuredText, with plots beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import events, growth, imports, openloop, plots, soak, subjects, summary, table, wire

PAGE = "performance-measured.rst"
Lines = Sequence[dict[str, Any]]


def write(lines: Lines, into: str | Path) -> Iterator[str]:
    """Write the page and the plots. Yields the names of the files, and the reason if there are no plots."""
    folder = Path(into)
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, str] = {}
    try:
        made = plots.draw(lines, folder / "plots")
    except plots.NoMatplotlib as exc:
        yield f"no plots: {exc}"
    (folder / PAGE).write_text(page(lines, made), encoding="utf-8")
    yield str(folder / PAGE)
    yield from (str(folder / "plots" / name) for name in made)


def page(lines: Lines, made: dict[str, str]) -> str:
    """The text of the page; `made` has the name and the title of each plot."""
    parts = [
        _title("Measured figures", "="),
        "Written by ``python -m bench report``; do not edit. Figures are medians over the rounds. *spread* is (largest - "
        "smallest) / median. *CPU us/call* is the user and system time of client, server and broker together, in "
        "microseconds; *server*, *client* and *ZeroMQ's* are parts of it. *x pyzmq* and *x hub* are ratios to those rows, "
        "taken within each round. *p50*, *p99* and *p99.9* are the times that 50, 99 and 99.9 % of the callers waited at most.",
        *table.where(lines),
    ]
    for title, headings, rows in table.tables(lines):
        parts += [_title(title, "-"), list_table(headings, rows)]
    parts += _who(lines)
    for axis, title in growth.TITLES.items():
        rows = growth.rows(list(lines), axis)
        if rows:
            parts += [_title(f"Growth: {title}", "-"), list_table(["", *growth.HEADINGS], rows)]
    for title, headings, rows in (
        ("Events", events.HEADINGS, events.rows(list(lines))),
        ("Events that wait", events.WAITING_HEADINGS, events.waiting_rows(list(lines))),
        ("Open loop", openloop.HEADINGS, openloop.rows(list(lines))),
        ("Soak", soak.HEADINGS, soak.rows(list(lines))),
        ("Imports", imports.HEADINGS, imports.rows(list(lines))),
        ("The wire alone", *wire.rows(list(lines))),
    ):
        if rows:
            parts += [_title(title, "-"), list_table(headings, rows)]
    missing = summary.failures(lines)
    if missing:
        told = [f"* {_plain(who)}: {_plain('; '.join(why))}" for who, why in missing.items()]
        parts += [_title("Not measured", "-"), "\n".join(told)]
    if made:
        parts.append(_title("Plots", "-"))
        parts += [f"{_plain(title)}:\n\n.. image:: plots/{name}\n   :alt: {_plain(title)}" for name, title in made.items()]
    return "\n\n".join(parts) + "\n"


def _who(lines: Lines) -> list[str]:
    measured = {subject: line for (_, subject), rounds in summary.measured(lines).items() for line in rounds.values()}
    if not measured:
        return []
    rows = []
    for name, line in measured.items():
        about = subjects.find(name).about if name in subjects.ALL else ""
        rows.append([name, about, ", ".join(f"{library} {version}" for library, version in line["versions"].items())])
    return [_title("What is measured", "-"), list_table(["subject", "what it is", "versions"], rows)]


def _title(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"


def _plain(text: str) -> str:
    """The text with all markup escaped."""
    return "".join(f"\\{letter}" if letter in "*`_|\\" else letter for letter in " ".join(text.split()))


def list_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells may be of any width."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (headings, *rows):
        for place, cell in enumerate(row):
            lines.append(f"   {'*' if place == 0 else ' '} - {_plain(cell)}".rstrip())
    return "\n".join(lines)
