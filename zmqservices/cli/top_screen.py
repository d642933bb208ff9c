"""Draws `zmqservices top` on a terminal, with rich (the extra `top`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from zmqservices.cli.cluster_rows import ClusterRow
from zmqservices.cli.cluster_table import GAP, cells, fitting, style_of, titles
from zmqservices.cli.top_view import HELP, TopView
from zmqservices.log_helpers import escaped

try:
    from rich.console import Console, Group
    from rich.text import Text
except ImportError as error:
    raise ImportError("rich is not installed; `pip install zmqservices[top]` brings it") from error

STYLES = {"bad": "bold red", "warning": "yellow", "service": "bold", "": ""}


class TopScreen:
    """The whole screen of a terminal. The end of the block restores what was there before."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._context = self._console.screen()

    def __enter__(self) -> TopScreen:
        self._context.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._context.__exit__(kind, error, trace)

    def draw(self, rows: Sequence[ClusterRow], view: TopView, about: str) -> None:
        """Show these rows. `about`: what the first line says of the cluster."""
        width, height = self._console.size
        lines = lines_of(rows, view, about, width, height, time.strftime("%H:%M:%S"))
        self._console.update_screen(Group(*lines))


def lines_of(rows: Sequence[ClusterRow], view: TopView, about: str, width: int, height: int, now: str) -> list[Text]:
    """The lines of a screen of this size: at most `height` of them, and none wider than `width`."""
    columns = fitting(rows, width)
    problems = [f"{one.instance or one.service}: {one.problem}" for one in rows if one.problem]
    room = max(0, height - 3 - bool(problems))
    # The last rows stay on the screen, however far the user scrolls down.
    offset = min(view.offset, max(0, len(rows) - room))
    shown = rows[offset : offset + room]
    last = f"filter: {view.wanted}_  (Enter: keep, Esc: clear)" if view.is_typing else HELP
    order = f"by {view.sort}{', reversed' if view.is_reversed else ''}"
    chosen = f"  filter: {view.wanted}" if view.wanted and not view.is_typing else ""
    lines = [
        _line(f"{now}  {escaped(about)}  {order}{escaped(chosen)}", width, "dim"),
        _line((" " * GAP).join(titles(columns)), width, "reverse"),
        *(_line((" " * GAP).join(cells(row, columns)), width, STYLES[style_of(row)]) for row in shown),
    ]
    if not rows:
        filtered = f"nothing has {escaped(repr(view.wanted))} in its name; Esc ends the filter"
        lines.append(_line(filtered if view.wanted else "no services are listed", width, "yellow"))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    end = [_line(escaped(f"{one}{more}"), width, "yellow") for one in problems[:1]]
    end = [*end, _line(escaped(last), width, "dim")][-max(1, height) :]
    lines += [Text("")] * (height - len(end) - len(lines))
    return [*lines[: max(0, height - len(end))], *end]


def _line(text: str, width: int, style: str) -> Text:
    line = Text(text, style=style, no_wrap=True, overflow="ellipsis", end="\n")
    line.truncate(width, overflow="ellipsis")
    return line
