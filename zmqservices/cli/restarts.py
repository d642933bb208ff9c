"""Decides when a process that has ended is restarted.

Rule 1: no process and no clock here; `now` is always an argument.
Rule 2: a process whose configuration is wrong is not restarted until a file changes.
Rule 3: a process that ended with exit code 0, or after a long life, is restarted soon. A process that keeps failing is restarted
after growing pauses (exponential backoff with jitter).
"""

from __future__ import annotations

import random

#: The exit code of a process whose command line or configuration is wrong.
BAD_CONFIGURATION = 2
#: Seconds before the first restart, and the longest pause.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
#: A process that was up for this many seconds begins again with the first pause.
LONG_LIFE = 60.0


class Restarts:
    """Computes the time of one process's next start from how it ended before."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self.failures = 0
        self.up_since: float | None = None
        self.was_ever_up = False
        self.is_given_up = False

    def came_up(self, now: float) -> None:
        """The services of the process are up since `now`."""
        self.up_since = now
        self.was_ever_up = True

    def ended(self, code: int, now: float) -> float | None:
        """The process ended with `code`. Returns when to restart it; None for never."""
        up_since, self.up_since = self.up_since, None
        if code == BAD_CONFIGURATION and up_since is None:
            self.is_given_up = True
            return None
        had_long_life = up_since is not None and now - up_since >= LONG_LIFE
        if code == 0 or had_long_life:
            self.failures = 0
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures, 30))
        self.failures += 1
        # Jitter, so that processes that died of one cause do not start at the same moment.
        return now + pause * self._rng.uniform(0.5, 1.0)

    def forgive(self) -> None:
        """A file or the configuration changed: earlier failures do not count."""
        self.failures = 0
        self.is_given_up = False
