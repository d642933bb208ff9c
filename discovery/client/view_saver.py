"""Writes the last good view to disk, and reads it again.

Internal. Used on the directory's own thread only.

Rule 1: only records that a registry has confirmed are written: they must not be replaced by records that none has confirmed.
"""

from __future__ import annotations

from discovery.client.cache import DiskCache
from discovery.client.merge import Merge, MergedRecord
from discovery.interest import NOTHING, Interest, grown

NEVER = float("inf")
#: Seconds between two writes of the cache.
SAVE_INTERVAL = 1.0


class ViewSaver:
    """The records of `merge` on disk. Does nothing without a cache."""

    def __init__(self, cache: DiskCache | None, merge: Merge) -> None:
        self._cache = cache
        self._merge = merge
        #: The time of the next write.
        self.save_at = NEVER
        self._saved_at = float("-inf")
        #: The part of the interest whose records must be written again.
        self._unsaved: Interest = NOTHING

    def restore(self, interest: Interest, now: float) -> None:
        """Adds the records of an interest that are on disk."""
        if self._cache is not None:
            self._merge.restore(MergedRecord(record, now - age) for record, age in self._cache.load(interest))

    def has_changed(self, now: float) -> None:
        """The view has changed: it must be written soon."""
        if self._cache is not None:
            self.save_at = min(self.save_at, max(now, self._saved_at + SAVE_INTERVAL))

    def answered(self, interest: Interest, now: float) -> None:
        """A registry has told all records of this interest: they must be written soon."""
        self._unsaved = grown(self._unsaved, interest)
        self.has_changed(now)

    def save(self, interest: Interest, now: float) -> None:
        """Writes the changed records of an interest."""
        self.save_at = NEVER
        changed, self._merge.changed_keys = self._merge.changed_keys, set()
        if self._cache is None:
            return
        if interest is not None:
            changed &= interest
        self._unsaved = grown(self._unsaved, frozenset(changed))
        confirmed = self._merge.confirmed(self._unsaved if interest is not None else None)
        if confirmed == NOTHING:
            return
        self._saved_at = now
        self._unsaved = NOTHING if confirmed is None or self._unsaved is None else self._unsaved - confirmed
        known = [(item.record, max(0.0, now - item.last_contact)) for item in self._merge.known.values()]
        self._cache.save(known, confirmed)
