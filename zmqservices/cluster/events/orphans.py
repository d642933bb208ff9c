"""Orphans: journals of ended processes on this host. They are found, served until they are empty, and deleted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from zmqservices.cluster.events.served_journal import ServedJournal
from zmqservices.cluster.events.source_journals import SourceJournals
from zmqservices.exceptions import JournalError
from zmqservices.journal import Journal, Notice, Orphan
from zmqservices.transport.reactor import Reactor
from zmqservices.utils.concurrency import in_thread

_log = logging.getLogger(__name__)

#: Seconds between two searches.
ORPHAN_INTERVAL = 5.0

#: The most early answers that are kept, and the seconds for which they are kept. An orphan is found within five seconds; much
#: later, an operator may have rewound the journal on purpose.
CLAIMS_KEPT, CLAIMED_FOR = 10_000, 60.0

#: The time of a file's last change, and its size; None for a missing file.
Fingerprint = tuple[int, int] | None


class JournalClaims:
    """Answers to events of journals that no process serves yet. They count if such a journal is adopted soon.

    Pure: `now` is an argument, in monotonic seconds.
    """

    def __init__(self) -> None:
        self._claims: deque[tuple[float, str, str, int]] = deque(maxlen=CLAIMS_KEPT)

    def add(self, group: str, origin: str, seq: int, now: float) -> None:
        """A member of `group` has handled this event."""
        self._claims.append((now, group, origin, seq))

    def of(self, knows: Callable[[str, int], bool], now: float) -> list[tuple[str, int]]:
        """The (group, seq) of the events for which `knows(origin, seq)`."""
        while self._claims and now - self._claims[0][0] > CLAIMED_FOR:
            self._claims.popleft()
        return [(group, seq) for _, group, origin, seq in self._claims if knows(origin, seq)]


class OrphanOwner(Protocol):
    """The source that adopts journals; a Source."""

    name: str
    journals: SourceJournals

    def new_served_journal(self) -> ServedJournal:
        """Make a ServedJournal, which the caller opens."""

    def log_notice(self, notice: Notice) -> None:
        """Log a journal's notice to operators."""

    def take_up_groups(self, served: ServedJournal) -> None:
        """Also keep events for the groups of an adopted journal."""

    def serve(self, served: ServedJournal) -> None:
        """Deliver the events of an adopted journal from now on."""


class Orphans:
    """The search of one source for orphans. `look` starts it, and it is repeated until `close`.

    `empty` has the journals that were found empty, with the fingerprints of their files at that time. All sources of a publisher
    share it. `spawn` starts a greenlet.
    """

    def __init__(
        self,
        owner: OrphanOwner,
        folder: str,
        empty: dict[Path, Fingerprint],
        spawn: Callable[[Callable[[], None]], None],
        reactor: Reactor,
        clock: Callable[[], float],
    ) -> None:
        self.claims = JournalClaims()
        #: Whether a search has been completed.
        self.has_looked = False
        self._owner = owner
        self._folder = folder
        self._empty = empty
        self._spawn = spawn
        self._reactor = reactor
        self._clock = clock
        self._is_looking = False
        self._closed = False

    def look(self) -> None:
        """Search now, in a greenlet, and again every `ORPHAN_INTERVAL` seconds."""
        if not self._closed and not self._is_looking:
            self._is_looking = True
            self._spawn(self._adopt_all)

    def close(self) -> None:
        """Adopt no more journals."""
        self._closed = True

    def _adopt_all(self) -> None:
        owner = self._owner
        try:
            for orphan in in_thread(Journal.orphans, self._folder, owner.name):
                if not self._closed:
                    self._open(orphan)
            for served in owner.journals.adopted():
                if served.is_empty():
                    self._remove(served)
        except Exception:
            _log.exception("the search for orphaned journals in %s failed", self._folder)
        finally:
            self._is_looking = False
            self.has_looked = True
            if not self._closed:
                self._reactor.call_later(ORPHAN_INTERVAL, self.look)

    def _open(self, orphan: Orphan) -> None:
        owner, path = self._owner, orphan.path
        if self._empty.get(path) == _fingerprint(path):
            return
        served = owner.new_served_journal()
        try:
            served.open(owner.name, owner.log_notice, orphan.slot)
        except JournalError as exc:
            _log.debug("did not adopt %s: %s", path, exc)
            return
        self.adopt(served)
        if self._closed or served.is_empty():
            served.close()
            self._empty[path] = _fingerprint(path)
            return
        _log.info("adopted %s, which another process has left", path)
        owner.serve(served)

    def adopt(self, served: ServedJournal) -> None:
        """Apply the answers that came before the journal was opened, and take up its groups."""
        for group, seq in self.claims.of(served.journal.knows, self._clock()):
            served.journal.acknowledge(group, seq)
        self._owner.take_up_groups(served)

    def _remove(self, served: ServedJournal) -> None:
        path = served.journal.path
        _log.info("everything in %s is handled", path)
        self._owner.journals.remove(served)
        served.close(discard=True)
        self._empty[path] = _fingerprint(path)


def _fingerprint(path: Path) -> Fingerprint:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)
