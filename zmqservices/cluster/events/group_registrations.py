"""Groups that the directory remembers, so that who publishes later keeps events for one of which nobody is there now.

Each is a note of the directory. Rule 1: who handles writes it, and writes it anew while it is there, so that its age says
when a member was last there. Rule 2: who publishes adds only what is missing, with the age that its journal knows; what it
has from notes itself, it does not refresh. Rule 3: what an operator forgot counts until a member is back.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator
from time import time
from typing import Any

import discovery
from discovery.model import LONGEST_NOTE_TTL
from zmqservices.cluster.events.subscription import Subscription, publishing

_log = logging.getLogger(__name__)

#: Seconds after which the note of a group that is there is written anew, and between two looks whether it is time.
REFRESH_AFTER, LOOK_INTERVAL = 3600.0, 600.0


def key_of(source: str, group: str) -> str:
    """The key of a group's note."""
    return f"{publishing(source)}\0{group}"


def remembered(view: Any, source: str) -> dict[str, Subscription | None]:
    """The groups of a source that notes tell of; None for one that is to be forgotten."""
    prefix = key_of(source, "")
    return {note.key[len(prefix) :]: _told_by(note) for note in view.notes if note.key.startswith(prefix)}


def all_remembered(view: Any) -> Iterator[tuple[Subscription, Any]]:
    """All groups that notes tell of, each with its note, without those that are to be forgotten."""
    for note in view.notes:
        want = _told_by(note)
        if want is not None:
            yield want, note


def _told_by(note: Any) -> Subscription | None:
    """The group of a note; None where it is of something else, or says that a group is to be forgotten."""
    want = Subscription.from_dict(note.value)
    return want if want is not None and note.key == key_of(want.source, want.group) else None


class GroupRegistrations:
    """What one node has the directory remember. `expires_after` as in EventSettings; None is as long as notes are kept."""

    def __init__(self, directory: Any, reactor: Any, expires_after: float | None) -> None:
        self._directory = directory
        self._reactor = reactor
        self._ttl = LONGEST_NOTE_TTL if expires_after is None else min(expires_after + REFRESH_AFTER, LONGEST_NOTE_TTL)
        self._held: dict[str, list[Subscription]] = {}
        self._timer: Any = None

    def hold(self, service: str, wants: Iterable[Subscription]) -> None:
        """These are handled here from now on: they are to be remembered, and for as long after `release`."""
        self._held[service] = [want for want in wants if want.reliable]
        self._write(self._held[service])
        if self._timer is None and self._held[service]:
            self._look_later()

    def release(self, service: str) -> None:
        """They are not any more."""
        self._held.pop(service, None)

    def add(self, wants: dict[str, tuple[Subscription, float]]) -> None:
        """Groups that a journal knows, and how many seconds ago a member of each was last there: if nobody told of them yet."""
        known = {note.key for note in self._directory.view().notes} if wants else set()
        for want, age in wants.values():
            if key_of(want.source, want.group) not in known and age < self._ttl:
                self._note(want, max(age, 1.0))

    def forget(self, source: str, group: str) -> None:
        """An operator says that it does not return."""
        try:
            self._directory.delete(key_of(source, group))
        except discovery.DirectoryError as exc:
            _log.warning("the directory does not forget %s: %s", group, exc)

    def _note(self, want: Subscription, age: float) -> None:
        try:
            self._directory.put(key_of(want.source, want.group), want.to_dict(), ttl=self._ttl, age=age)
        except discovery.DirectoryError as exc:
            # Journals remember it all the same, and members that are there are listed.
            _log.warning("the directory does not remember %s: %s", want.group, exc)

    def _look_later(self) -> None:
        # At random, so that one of a group's members refreshes its note and the others find it done.
        self._timer = self._reactor.call_later(LOOK_INTERVAL * random.uniform(0.5, 1.5), self._look)

    def _look(self) -> None:
        self._timer = None
        self._write([want for wants in self._held.values() for want in wants])
        if any(self._held.values()):
            self._look_later()

    def _write(self, wants: list[Subscription]) -> None:
        """Where another member of the group has written the same lately, that will do."""
        now = time()
        fresh = {note.key: note.value for note in self._directory.view().notes if note.age(now) < REFRESH_AFTER}
        for want in wants:
            if fresh.get(key_of(want.source, want.group)) != want.to_dict():
                self._note(want, 0.0)

    def close(self) -> None:
        """The node leaves."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
