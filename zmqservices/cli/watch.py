"""Finds source files that have changed since the last check."""

from __future__ import annotations

import os
from collections.abc import Iterable


class Watch:
    """The watched files, and when each of them last changed."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def add(self, files: Iterable[str]) -> None:
        """Watch these files as well; changes count from now on."""
        for file in files:
            self._seen.setdefault(file, _written_at(file))

    def changed(self) -> list[str]:
        """The files that were written, removed or created again since the last call."""
        now = {file: _written_at(file) for file in self._seen}
        before, self._seen = self._seen, now
        return [file for file, written_at in now.items() if written_at != before[file]]


def _written_at(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0
