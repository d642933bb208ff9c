"""Which journal files a folder holds for a source, and which process owns which.

A journal is `SOURCE.N.journal` and belongs to whoever holds the flock of `SOURCE.N.lock` beside it; N is the slot. A process
takes the first free slot, so that one that restarts finds its journal again. An orphan is a journal that nobody holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Orphan(NamedTuple):
    """A journal that no process owns. Open it with `Journal.open(folder, source, slot=slot)` to adopt it."""

    path: Path
    source: str
    slot: int
