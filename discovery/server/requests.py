"""How a registry answers each request of a client.

Rule 1: no sockets and no threads here. Answers and changes leave through the feed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from discovery import protocol
from discovery.exceptions import DirectoryError, DirectoryProtocolError
from discovery.notes import NoteStore
from discovery.server.feed import ChangeFeed
from discovery.server.limits import RegistryLimits
from discovery.server.table import Table

#: Seconds by which a note may be dated ahead of the registry's clock. A note dated later would win over honest notes.
NOTE_AHEAD = 60.0
#: Seconds by which a rank, in microseconds since 1970, may be ahead. A higher rank could not be replaced until then.
RANK_AHEAD = 86_400.0


class RequestHandlers:
    """Carries out requests on the table and the notes of one registry."""

    def __init__(self, table: Table, notes: NoteStore, feed: ChangeFeed, limits: RegistryLimits) -> None:
        self._table = table
        self._notes = notes
        self._feed = feed
        self._limits = limits

    def handle(self, peer: bytes, message: protocol.Message, now: float, size: int) -> None:
        """Answers one message of `size` bytes. DirectoryProtocolError for a message that a registry does not take."""
        handle = self._HANDLERS.get(type(message))
        if handle is None:
            raise DirectoryProtocolError(f"{type(message).__name__} is not for a registry")
        handle(self, peer, message, now, size)

    def _subscribe(self, peer: bytes, message: protocol.Subscribe, now: float, size: int) -> None:
        self._feed.subscribe(peer, message, now)

    def _extend(self, peer: bytes, message: protocol.Extend, now: float, size: int) -> None:
        self._feed.extend(peer, message, now)

    def _read(self, peer: bytes, message: protocol.Read, now: float, size: int) -> None:
        self._feed.read(peer, message)

    def _register(self, peer: bytes, message: protocol.Register, now: float, size: int) -> None:
        try:
            most = self._limits.max_record_size
            if size > most + protocol.REGISTRATION_ROOM:
                raise DirectoryError(f"a record of {size} bytes; this registry's max_record_size is {most}")
            _check_rank(message.record.rank)
            changes = self._table.register(message.record, now, size, peer)
        except DirectoryError as exc:
            self._feed.answer(peer, protocol.Refused(message.request, str(exc)))
            return
        self._feed.push(changes)
        self._feed.answer(peer, protocol.Ack(message.request))

    def _renew(self, peer: bytes, message: protocol.Renew, now: float, size: int) -> None:
        unknown = []
        for instance, incarnation, version, *_ in message.leases:
            known, changes = self._table.renew(instance, (incarnation, version), now)
            self._feed.push(changes)
            if not known:
                unknown.append(instance)
        if unknown:
            self._feed.answer(peer, protocol.Unknown(unknown))

    def _withdraw(self, peer: bytes, message: protocol.Withdraw, now: float, size: int) -> None:
        rank = (message.incarnation, message.version)
        try:
            _check_rank(rank)
        except DirectoryError as exc:
            self._feed.answer(peer, protocol.Refused(message.request, str(exc)))
            return
        self._feed.push(self._table.withdraw(message.namespace, message.instance, rank, now, message.signed))
        self._feed.answer(peer, protocol.Ack(message.request))

    def _put_notes(self, peer: bytes, message: protocol.PutNotes, now: float, size: int) -> None:
        wall = time.time()
        notes, reasons = message.notes, []
        most_bytes = self._limits.max_note_size
        if most_bytes < protocol.MAX_NOTE:
            notes = [note for note in notes if protocol.size_of(note) <= most_bytes]
            if len(notes) < len(message.notes):
                too_large = len(message.notes) - len(notes)
                reasons.append(f"{too_large} note(s) of more bytes than this registry's max_note_size, which is {most_bytes}")
        ahead = [note for note in notes if note.age(wall) < -NOTE_AHEAD]
        news = self._notes.take(notes, wall, peer)
        self._feed.push_notes(news)
        if ahead:
            most = -min(note.age(wall) for note in ahead)
            reasons.append(f"{len(ahead)} note(s) dated up to {most:.0f} s ahead of this registry's clock; set the clocks")
        if self._notes.refused:
            reasons.append(
                f"{self._notes.refused} note(s) beyond the {self._notes.most_of_writer} that one connection may have written"
            )
        answer = protocol.Refused(message.request, ", and ".join(reasons)) if reasons else protocol.Ack(message.request)
        self._feed.answer(peer, answer)

    _HANDLERS: dict[type[Any], Callable[..., None]] = {
        protocol.Subscribe: _subscribe,
        protocol.Extend: _extend,
        protocol.Register: _register,
        protocol.Renew: _renew,
        protocol.Withdraw: _withdraw,
        protocol.PutNotes: _put_notes,
        protocol.Read: _read,
    }


def _check_rank(rank: tuple[int, int]) -> None:
    most = int((time.time() + RANK_AHEAD) * 1e6)
    if max(rank) > most:
        raise DirectoryError(f"incarnation {rank[0]} and version {rank[1]}: the most is {most}, microseconds a day from now")
