"""Group registrations: consumer groups in the directory, so that new publishers keep events for groups that have no live member.

Each registration is a note in the directory.

Rule 1: a subscriber writes the note of its group and refreshes it, so that the note's age says when a member was last connected.
Rule 2: a publisher only adds missing notes, with the age that its journal knows. It refreshes none.
Rule 3: in a closed cluster a subscriber also replaces the note that another node has signed when its own certificate has changed:
the authority may have changed, and the other node may be gone. The directory's client signs this node's notes again.
Rule 4: the removal of a group by an operator holds until a member returns.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator
from time import time

import discovery
from discovery.model import LONGEST_NOTE_TTL
from zmqservices.cluster.events.subscription import Subscription, publishing
from zmqservices.transport.reactor import Reactor, ReactorTimer

_log = logging.getLogger(__name__)

#: Seconds after which the note of a group with a member is refreshed, and seconds between two checks of that.
REFRESH_AFTER, CHECK_INTERVAL = 3600.0, 600.0


def key_of(source: str, group: str) -> str:
    """The key of a group's note."""
    return f"{publishing(source)}\0{group}"


def remembered(view: discovery.View, source: str) -> dict[str, Subscription | None]:
    """The registered groups of a source by name; None for a group that an operator removed."""
    prefix = key_of(source, "")
    return {note.key[len(prefix) :]: _group_of(note) for note in view.notes if note.key.startswith(prefix)}


def all_remembered(view: discovery.View) -> Iterator[tuple[Subscription, discovery.Note]]:
    """All registered groups, each with its note, without removed ones."""
    for note in view.notes:
        want = _group_of(note)
        if want is not None:
            yield want, note


def _group_of(note: discovery.Note) -> Subscription | None:
    """The group of a note; None if the note is about something else, or is the tombstone of a removed group."""
    want = Subscription.from_dict(note.value)
    return want if want is not None and note.key == key_of(want.source, want.group) else None


class GroupRegistrations:
    """The registrations of one node. `expires_after`: see EventSettings; with None, notes get the longest time to live."""

    def __init__(self, directory: discovery.Directory, reactor: Reactor, expires_after: float | None) -> None:
        self._directory = directory
        self._reactor = reactor
        self._ttl = LONGEST_NOTE_TTL if expires_after is None else min(expires_after + REFRESH_AFTER, LONGEST_NOTE_TTL)
        self._held: dict[str, list[Subscription]] = {}
        self._timer: ReactorTimer | None = None

    def hold(self, service: str, wants: Iterable[Subscription]) -> None:
        """`service` handles these groups from now on: keep them registered until `release`. After that they expire."""
        self._held[service] = [want for want in wants if want.reliable]
        self._write(self._held[service])
        if self._timer is None and self._held[service]:
            self._check_later()

    def release(self, service: str) -> None:
        """`service` no longer handles its groups."""
        self._held.pop(service, None)

    def certificate_changed(self, key: bytes) -> None:
        """This node, whose public key is `key`, has another certificate: replace the notes of its groups that others signed."""
        self._write([want for wants in self._held.values() for want in wants], key)

    def add(self, wants: dict[str, tuple[Subscription, float]]) -> None:
        """Register the missing groups of a journal, each with the seconds since a member was last connected."""
        known = {note.key for note in self._directory.view().notes} if wants else set()
        for want, age in wants.values():
            if key_of(want.source, want.group) not in known and age < self._ttl:
                self._note(want, max(age, 1.0))

    def forget(self, source: str, group: str) -> None:
        """An operator removed the group."""
        try:
            self._directory.delete(key_of(source, group))
        except discovery.DirectoryError as exc:
            _log.warning("the directory could not remove the group %s: %s", group, exc)

    def _note(self, want: Subscription, age: float) -> None:
        try:
            self._directory.put(key_of(want.source, want.group), want.to_dict(), ttl=self._ttl, age=age)
        except discovery.DirectoryError as exc:
            # Journals still keep the group, and connected members are listed.
            _log.warning("the group %s could not be registered in the directory: %s", want.group, exc)

    def _check_later(self) -> None:
        # With jitter, so that one member of a group refreshes the note, and the others find it fresh.
        self._timer = self._reactor.call_later(CHECK_INTERVAL * random.uniform(0.5, 1.5), self._check)

    def _check(self) -> None:
        self._timer = None
        self._write([want for wants in self._held.values() for want in wants])
        if any(self._held.values()):
            self._check_later()

    def _write(self, wants: list[Subscription], signer: bytes | None = None) -> None:
        """Write the notes, unless another member of the group has recently written the same.

        `signer`: only recent notes of the node with this key count.
        """
        now = time()
        notes = [note for note in self._directory.view().notes if signer is None or note.signer == signer] if wants else []
        fresh = {note.key: note.value for note in notes if note.age(now) < REFRESH_AFTER}
        for want in wants:
            if fresh.get(key_of(want.source, want.group)) != want.to_dict():
                self._note(want, 0.0)

    def close(self) -> None:
        """The node is closed: refresh no more notes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
