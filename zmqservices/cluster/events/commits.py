"""Dispatches that wait until their events are on disk. The journal commits in a native thread while the hub goes on."""

from __future__ import annotations

from collections import deque
from functools import partial

from zmqservices.journal import Journal, NewEvent
from zmqservices.transport.reactor import Completion, Reactor

#: The most seconds per turn that the hub waits for the journal's thread to commit. A commit usually takes a tenth of this.
GIVE_WAY = 0.002


class Commit(Completion):
    """A dispatch that waits until its event is on disk. `outcome` is the event's seq, or the error."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:
        super().__init__()
        self.outcome: int | Exception | None = None


class Commits:
    """The dispatches of one source that wait for its journal."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._done: deque[tuple[Commit, int | Exception]] = deque()
        self._is_posted = False
        self._gives_way = False

    def append(self, journal: Journal, event: NewEvent) -> Commit:
        """Append an event to the journal. Call `wait` afterwards. Raises JournalError if the journal is closed."""
        commit = Commit()
        journal.append(event, partial(self._committed, commit))
        if not self._gives_way:
            self._gives_way = True
            self._reactor.post(self._give_way, journal)
        return commit

    def wait(self, commit: Commit) -> None:
        """Block the greenlet until the event is on disk. Raises JournalError if it could not be stored."""
        self._reactor.park(commit, 1)
        if isinstance(commit.outcome, Exception):
            raise commit.outcome

    def _give_way(self, journal: Journal) -> None:
        # Once for all events that were dispatched in this turn of the hub.
        self._gives_way = False
        journal.give_way(GIVE_WAY)

    def _committed(self, commit: Commit, outcome: int | Exception) -> None:
        # Runs on the journal's thread. Wake the hub once for all events that were committed together.
        self._done.append((commit, outcome))
        if not self._is_posted:
            self._is_posted = True
            self._reactor.post(self._take)

    def _take(self) -> None:
        self._is_posted = False
        done = self._done
        for _ in range(len(done)):
            commit, outcome = done.popleft()
            commit.outcome = outcome
            commit.stage = 1
            self._reactor.wake((commit,))
