"""Log lines with durations, and protection against forged lines: texts of other processes cannot begin a log line."""

from __future__ import annotations

import logging
import os
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
    """Make a context manager `log_time(text, *args)`, which logs the text and the seconds that its block took.

    The line is logged even if the block raises. `precision`: the number of decimals.
    """

    @contextmanager
    def log_time(text: str, *args: object) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            logger.log(level, f"{text} in %0.{precision}fs", *args, seconds)

    return log_time


#: Characters that end a line, move a terminal's cursor or ring its bell. The tab is harmless.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
#: The same without the newline, for texts of several lines.
_CONTROL_BUT_NEWLINE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

#: The packages whose log lines quote texts of other processes.
_OWN = ("zmqservices", "discovery")


def escaped(text: str) -> str:
    """The text on one line, with control characters as escapes."""
    return _CONTROL.sub(_as_written, text)


def escaped_lines(text: str, indent: str = "") -> str:
    """The text with its line breaks, and each line after the first indented; other control characters become escapes."""
    return _CONTROL_BUT_NEWLINE.sub(_as_written, text).replace("\n", "\n" + indent)


def _as_written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class OneLineRecord(logging.LogRecord):
    """A log record whose message is always one line, whatever a peer has put into it."""

    def getMessage(self) -> str:
        return escaped(super().getMessage())


class Formatter(logging.Formatter):
    """Python's formatter, with the lines of an exception's text indented, because a peer may have chosen the text.

    With `hides_own_frames`, tracebacks leave out frames of this package that led to the application's code.
    """

    def __init__(self, fmt: str | None = None, hides_own_frames: bool = False) -> None:
        super().__init__(fmt)
        self._hides_own_frames = hides_own_frames

    def formatException(self, ei: Any) -> str:
        return format_exception(ei[1], self._hides_own_frames) if ei[1] is not None else super().formatException(ei)


#: The folder of this package.
_HOME = os.path.dirname(os.path.abspath(__file__)) + os.sep


def format_exception(error: BaseException, hides_own_frames: bool = False) -> str:
    """The traceback of an exception as Python prints it, with the lines of the exceptions' texts indented.

    With `hides_own_frames`, without this package's frames before the first other frame. A traceback with no other frames is shown
    whole, because the error is in this package.
    """
    whole = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    waiting: list[Any] = [whole]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if hides_own_frames and one.stack:
            led = next((at for at, frame in enumerate(one.stack) if not frame.filename.startswith(_HOME)), 0)
            del one.stack[:led]
        if isinstance(getattr(one, "_str", None), str):
            one._str = escaped_lines(one._str, "    ")
        one.__notes__ = [escaped_lines(str(note), "    ") for note in getattr(one, "__notes__", None) or ()]
        waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]
    return "".join(whole.format()).rstrip("\n")


def escape_what_others_sent() -> None:
    """Escape control characters in log lines of this package from now on, so that no peer can forge a line of the log.

    `zmqservices run` calls it, and programs that configure logging themselves may call it. It works with all handlers. It does
    not change the application's loggers, and does nothing if the application has set a record factory.
    """
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(_record)


def _record(name: str | None, *args: object, **kwargs: object) -> logging.LogRecord:
    # `logging.makeLogRecord` makes records without a name.
    make = OneLineRecord if (name or "").partition(".")[0] in _OWN else logging.LogRecord
    return make(name, *args, **kwargs)  # type: ignore[arg-type]
