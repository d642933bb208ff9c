"""Keeps the last error of each method and type with its traceback. The number and the length of both are bounded.

Internal.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from zmqservices.log_helpers import format_exception

#: The most errors that are kept, and the most characters of a text and of a traceback.
MOST_KEPT, LONGEST_TEXT, LONGEST_TRACEBACK = 20, 500, 4000

#: Seconds between two tracebacks of one method and type. An error that comes sooner is shown with the traceback before it.
TRACEBACK_INTERVAL = 1.0


class LastError(NamedTuple):
    """The last error of one type in a method. `at` is in seconds since 1970, `type` the name of its class.

    `traceback` is that of the error at `traced_at`, which may be older than `at`.
    """

    at: float
    service: str
    instance: str
    method: str
    type: str
    text: str
    call_id: str
    traceback: str
    traced_at: float


class LastErrors:
    """The last errors of one process. Iterating gives them, oldest first."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str], LastError] = OrderedDict()

    def __iter__(self) -> Iterator[LastError]:
        return iter(list(self._kept.values()))

    def note(self, service: str, instance: str, method: str, type: str, error: BaseException, call_id: str) -> LastError:
        """Keep an error, and return its entry."""
        now = self._clock()
        key = (instance, method, type)
        former = self._kept.pop(key, None)
        if former is not None and 0.0 <= now - former.traced_at < TRACEBACK_INTERVAL:
            shown, traced_at = former.traceback, former.traced_at
        else:
            shown, traced_at = shortened(format_exception(error, hides_own_frames=True)), now
        noted = LastError(now, service, instance, method, type, _text(error)[:LONGEST_TEXT], call_id, shown, traced_at)
        self._kept[key] = noted
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return noted


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"[its text cannot be made: {type(failure).__name__}]"


def shortened(traceback: str) -> str:
    """The last LONGEST_TRACEBACK characters of a traceback, because the error stands at its end."""
    if len(traceback) <= LONGEST_TRACEBACK:
        return traceback
    rest = traceback[-LONGEST_TRACEBACK + 6 :]
    # Begin with a whole line, unless one line fills all of it.
    return "[...]\n" + (rest.partition("\n")[2] or rest)
