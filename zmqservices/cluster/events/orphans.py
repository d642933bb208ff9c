"""Journals that other processes of this host have left: found, served until nothing waits in them, and removed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from zmqservices.cluster.events.served_journal import ServedJournal
from zmqservices.exceptions import JournalError
from zmqservices.journal import Journal
from zmqservices.utils.concurrency import in_thread

_log = logging.getLogger(__name__)

#: Seconds between two looks.
ORPHAN_INTERVAL = 5.0

#: Answers to events of journals that are not served here which are kept, and seconds for which they are. A journal that is
#: left is found within five; much later an operator may have wanted these events once more.
CLAIMS_KEPT, CLAIMED_FOR = 10_000, 60.0


class JournalClaims:
    """Answers to events of journals that nobody serves here yet: they count when one of these is taken over soon."""

    def __init__(self) -> None:
        self._claims: deque[tuple[float, str, str, int]] = deque(maxlen=CLAIMS_KEPT)

    def keep(self, group: str, origin: str, seq: int, now: float) -> None:
        self._claims.append((now, group, origin, seq))

    def of(self, knows: Callable[[str, int], bool], now: float) -> list[tuple[str, int]]:
        """The groups and numbers of the events that a journal knows."""
        while self._claims and now - self._claims[0][0] > CLAIMED_FOR:
            self._claims.popleft()
        return [(group, seq) for _, group, origin, seq in self._claims if knows(origin, seq)]


class Orphans:
    """Made by a source. `look` is called once; the looks that follow end with `close`."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._publisher = source.publisher
        self._folder = source.settings.folder
        #: Whether journals that others left have been looked for yet.
        self.has_looked = False
        self.claims = JournalClaims()
        self._is_looking = False
        self._closed = False

    def look(self) -> None:
        """Look now, in a greenlet, and again and again."""
        if not self._closed and not self._is_looking:
            self._is_looking = True
            self._publisher.spawn(self._adopt_all)

    def close(self) -> None:
        """Nothing more is taken over."""
        self._closed = True

    def _adopt_all(self) -> None:
        source = self._source
        try:
            orphans = in_thread(Journal.orphans, self._folder, source.name)
            for orphan in orphans:
                if not self._closed:
                    self._adopt(orphan)
            for served in [served for served in source.served_journals if served is not source.own and served.is_empty()]:
                self._drop(served)
        except Exception:
            _log.exception("journals that were left behind in %s could not be looked at", self._folder)
        finally:
            self._is_looking = False
            self.has_looked = True
            if not self._closed:
                source.reactor.call_later(ORPHAN_INTERVAL, self.look)

    def _adopt(self, orphan: Any) -> None:
        empty, source = self._publisher.empty_orphans, self._source
        if empty.get(orphan.path) == _fingerprint(orphan.path):
            return
        served: ServedJournal = source.new_outlet()
        try:
            served.open(source.name, source.tell, orphan.slot)
        except JournalError as exc:
            _log.debug("did not adopt %s: %s", orphan.path, exc)
            return
        for group, seq in self.claims.of(served.journal.knows, monotonic()):
            served.journal.acknowledge(group, seq)
        source.take_up_all(served)
        if self._closed or served.is_empty():
            served.close()
            empty[orphan.path] = _fingerprint(orphan.path)
            return
        _log.info("adopted %s, which another process has left", orphan.path)
        source.serve(served)

    def _drop(self, served: ServedJournal) -> None:
        path = served.journal.path
        _log.info("everything in %s is handled", path)
        self._source.serve_no_more(served)
        served.close(discard=True)
        self._publisher.empty_orphans[path] = _fingerprint(path)


def _fingerprint(path: Any) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)
