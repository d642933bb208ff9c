"""Log lines that say how long something took, and lines that nobody else can forge."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

__all__ = ["Formatter", "escape_what_others_sent", "make_timing_logger"]


def make_timing_logger(
    logger: logging.Logger, precision: int = 3, level: int = logging.DEBUG
) -> Callable[..., AbstractContextManager[None]]:
    """A context manager `log_time(text, *args)` that logs the text and the seconds that its block took.

    The line is logged whether or not the block raises; `precision` is the number of decimals.
    """

    @contextmanager
    def log_time(text: str, *args: Any) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            logger.log(level, f"{text} in %0.{precision}fs", *args, seconds)

    return log_time


#: Whatever ends a line, moves a terminal's cursor or rings its bell; the tabulator is harmless.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
#: The same, where lines may be several.
_CONTROL_BUT_NEWLINE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

#: The loggers that tell what others have sent.
_OWN = ("zmqservices", "discovery")


def escaped(text: str) -> str:
    """The text on one line, its control characters as Python would write them."""
    return _CONTROL.sub(_as_written, text)


def escaped_lines(text: str, indent: str = "") -> str:
    """The text with its lines, all but the first one indented; other control characters as Python would write them."""
    return _CONTROL_BUT_NEWLINE.sub(_as_written, text).replace("\n", "\n" + indent)


def _as_written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class OneLineRecord(logging.LogRecord):
    """A record of ours: its message is one line, whatever peers have put into it."""

    def getMessage(self) -> str:
        return escaped(super().getMessage())


class Formatter(logging.Formatter):
    """As Python's own; the text of an exception, which may be a peer's, begins no line.

    What `zmqservices run` logs with where LOGGING does not say otherwise.
    """

    def formatException(self, ei: Any) -> str:
        return format_exception(ei[1]) if ei[1] is not None else super().formatException(ei)


def format_exception(error: BaseException) -> str:
    """Its traceback as Python prints it, with the lines of the errors' own texts indented."""
    whole = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    waiting: list[Any] = [whole]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(getattr(one, "_str", None), str):
            one._str = escaped_lines(one._str, "    ")
        one.__notes__ = [escaped_lines(str(note), "    ") for note in getattr(one, "__notes__", None) or ()]
        waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]
    return "".join(whole.format()).rstrip("\n")


def escape_what_others_sent() -> None:
    """From here on no peer can forge a line of this process's log, whatever handlers write it.

    What `zmqservices run` does; for programs that configure logging themselves. The application's own loggers are left alone,
    and so is a record factory of its own.
    """
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(_record)


def _record(name: str, *args: Any, **kwargs: Any) -> logging.LogRecord:
    make = OneLineRecord if name.partition(".")[0] in _OWN else logging.LogRecord
    return make(name, *args, **kwargs)
