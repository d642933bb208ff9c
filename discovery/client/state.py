"""The keeper of a client's view: what its thread does with what registries say and what callers want.

Used on the directory's own thread only; `published` alone may be read from others.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import zmq

from discovery import protocol
from discovery.backend import Callback
from discovery.client.announcements import Announcements
from discovery.client.cache import DiskCache
from discovery.client.merge import Merge, MergedRecord
from discovery.client.published import Published
from discovery.client.registry_connection import SUBSCRIBING, UP, WAITING, RegistryConnection
from discovery.client.seed_connections import NEVER, SeedConnections
from discovery.client.seeds import Seed
from discovery.model import Note, Record, quoted
from discovery.native import Log, NativeEvent
from discovery.notes import MAX_ALL_NOTES, NoteStore

_log = Log(__name__)

#: The name under which our own records are merged: they are known also while no registry is.
OWN = ""
#: Seconds between two looks when nothing happens.
IDLE = 1.0
#: Seconds between two looks while a flush, a grace or a stop waits.
EAGER = 0.05
#: Seconds between two writes of the cache.
SAVE_EVERY = 1.0
#: Seconds, at random, before a registry that lacks notes is told of them: one of its clients is enough.
TELL_WITHIN = 1.0
#: Requests about notes are numbered from here on: those about our own records never get so far.
FIRST_NOTE_REQUEST = 1 << 40
#: Seconds between two looks for notes that are too old.
READ_NOTES_EVERY = 60.0
#: Seconds that a first attempt counts as reachable, for `flush`.
HOPE = 1.0
#: Sentences of refusal that are told but once.
MAX_REFUSALS = 10

#: The rank of each note that a registry has, by namespace and key.
Told = dict[tuple[str, str], tuple[int, bool, str]]


class Flush:
    """Somebody waits until all registries know of all changes; `good_enough`: those that are connected do."""

    def __init__(self) -> None:
        self.done = NativeEvent()
        self.good_enough = False


class ClientState:
    """Everything that the thread of one directory owns."""

    def __init__(
        self,
        name: str,
        seeds: list[Seed],
        namespace: str | None,
        cache: DiskCache | None,
        longest_pause: float,
        post: Callable[[Callable[[float], None]], None],
        now: float,
    ) -> None:
        self.ready = NativeEvent()
        self._name = name
        self._cache = cache
        self._seed_connections = SeedConnections(seeds, namespace, self, longest_pause, post, self._forget)
        self.published = Published({}, self._seed_connections.statuses(), False, now, {})
        self._merge = Merge()
        self._merge.snapshot(OWN, [], warming=True)
        self._announced = Announcements()
        self._notes = NoteStore()
        #: The rank of each note that a connected registry has, as far as we know.
        self._told: dict[RegistryConnection, Told] = {}
        self._note_requests = itertools.count(FIRST_NOTE_REQUEST)
        self._unanswered: dict[RegistryConnection, set[int]] = {}
        self._callbacks: dict[object, Callback] = {}
        self._to_call: set[object] = set()
        self._flushes: list[Flush] = []
        self._refusals: set[str] = set()
        self._renew_at = self._save_at = self._tell_at = self._save_notes_at = NEVER
        self._read_notes_at = now
        self._saved_at = float("-inf")
        self._stop_at: float | None = None
        self._has_changed = False

    # --- what callers want ---

    def announce(self, record: Record, now: float) -> None:
        """Tells everybody of an own record."""
        self._merge.update(OWN, MergedRecord(record, now))
        self._announced.announce(record)
        self._tell(record.instance)
        self._renew_at = min(self._renew_at, self._next_renewal(now))

    def withdraw(self, record: Record, now: float) -> None:
        """Tells everybody that an own record is gone."""
        self._merge.drop(OWN, record.instance, record.rank, withdrawn=True)
        self._announced.withdraw(record, now)
        self._tell(record.instance)

    def put(self, note: Note, is_new: bool, now: float) -> None:
        """Stores a note at every registry. A new one replaces the note that is known now, whatever the stamp of that."""
        held = self._notes.get(note.namespace, note.key)
        if held is not None and is_new:
            # The clock of the host that wrote the known note may be ahead of ours.
            note = dataclasses.replace(note, stamp=max(note.stamp, held.stamp + 1))
            if note.value is None:
                note = dataclasses.replace(note, ttl=max(note.ttl, held.ttl))
        if self._take_notes([note]):
            self._tell_notes(now)

    def flush(self, flush: Flush) -> None:
        """Sets `flush.done` when the time has come."""
        self._flushes.append(flush)

    def subscribe(self, token: object, callback: Callback) -> None:
        """Calls back at the end of this round, and after each change."""
        self._callbacks[token] = callback
        self._to_call.add(token)

    def unsubscribe(self, token: object) -> None:
        """Calls back no more."""
        self._callbacks.pop(token, None)

    def begin_to_stop(self, records: list[Record], now: float, timeout: float) -> None:
        """Withdraws what is left, for `timeout` seconds at most."""
        self._stop_at = now + timeout
        self._seed_connections.end_attempts()
        for record in records:
            self.withdraw(record, now)
        # At once: nobody else may know what a registry that is new has not been told.
        self._tell_notes(now)

    # --- the rounds of the thread ---

    def remember(self, now: float) -> None:
        """Believes the last good view on disk until a registry knows better."""
        if self._cache is not None:
            self._merge.remember(MergedRecord(record, now - age) for record, age in self._cache.load())
            self._take_notes(self._cache.load_notes())

    def is_over(self, now: float) -> bool:
        """True when the thread was told to stop and has nothing left to wait for."""
        if self._stop_at is None:
            return False
        connected = [connection for connection in self._seed_connections.connections() if connection.state in (UP, SUBSCRIBING)]
        return not connected or now >= self._stop_at or self._is_acknowledged(connected)

    def register_with(self, poller: zmq.Poller) -> None:
        """What the thread should wait for."""
        for connection in self._seed_connections.connections():
            connection.register_with(poller)

    def next_round(self, now: float) -> float:
        """Until when it may wait."""
        times = [now + IDLE, self._renew_at, self._save_at, self._seed_connections.next_attempt()]
        times += [self._tell_at, self._save_notes_at]
        times += [one.next_deadline() for one in self._seed_connections.connections() if one.state != WAITING]
        if self._flushes or self._merge.is_waiting or self._stop_at is not None:
            times.append(now + EAGER)
        return min(times)

    def take(self, ready: dict[Any, int], now: float) -> None:
        """Takes what the sockets have, and then gives up those that were silent for too long."""
        connections = self._seed_connections.connections()
        for connection in connections:
            connection.handle(ready, now)
        # After the messages: a pause of this whole process is not a registry's silence.
        for connection in connections:
            connection.check(now)

    def work(self, now: float) -> None:
        """Does what is due, and publishes what has changed."""
        self._seed_connections.attempt(now)
        if now >= self._renew_at:
            self._renew(now)
        if now >= self._tell_at:
            self._tell_notes(now)
        if now >= self._read_notes_at:
            self._read_notes(now)
        self._publish(now)
        if now >= self._save_at:
            self._save(now)
        if now >= self._save_notes_at:
            self._save_notes(now)
        self._answer_flushes(now)

    def leave(self, now: float) -> None:
        """The last round."""
        left = max(0.2, (self._stop_at or now) - now)
        self._publish(now)
        self._save(now)
        if self._save_notes_at is not NEVER:
            self._save_notes(now)
        self._seed_connections.close(now, left)
        self._publish(now)

    # --- what registries say (see link.RegistryListener) ---

    def link_up(self, connection: RegistryConnection, snapshot: list[protocol.Snapshot], now: float) -> None:
        """It sent all that it holds."""
        entries = [
            MergedRecord(record, now - age, suspect) for part in snapshot for record, age, suspect in part.entries
        ]
        self._merge.snapshot(connection.address, entries, connection.is_warming)
        self._told[connection], self._unanswered[connection] = {}, set()
        for part in snapshot:
            self._on_notes(connection, part.notes)
        if self._stop_at is not None:
            self._tell_notes(now)
        # Else not now: what another client tells it meanwhile is not told twice.
        self._tell_at = min(self._tell_at, now + random.uniform(0, TELL_WITHIN))
        self._announced.forget_the_past(now)
        self._announced.forget_acknowledgements(connection)
        for message in self._announced.messages(connection):
            connection.send(message)
        _log.info("registry %s (boot %s) lists %d records", connection.address, connection.boot_id, len(entries))
        self._publish(now)
        self.ready.set()

    def link_message(self, connection: RegistryConnection, message: protocol.Message, now: float) -> None:
        """It sent a change or an answer."""
        match message:
            case protocol.Update():
                entry = MergedRecord(message.record, now - message.age, message.suspect)
                self._merge.update(connection.address, entry)
            case protocol.Drop():
                rank = (message.incarnation, message.version)
                self._merge.drop(connection.address, message.instance, rank, message.withdrawn)
            case protocol.Heartbeat():
                self._merge.warmed(connection.address, message.warming)
            case protocol.NotesChanged():
                self._on_notes(connection, message.notes)
                self._tell_at = min(self._tell_at, now + random.uniform(0, TELL_WITHIN))
            case protocol.Ack():
                self._announced.acknowledged(connection, message.request)
                self._unanswered.get(connection, set()).discard(message.request)
            case protocol.Refused():
                self._announced.refused(connection, message.request)
                self._unanswered.get(connection, set()).discard(message.request)
                self._refused(connection, message.reason)
            case protocol.Unknown():
                for again in self._announced.messages(connection, message.instances):
                    connection.send(again)

    def link_down(self, connection: RegistryConnection, now: float) -> None:
        """It went away, or was never there."""
        self._merge.lost(connection.address, now)
        self._told.pop(connection, None)
        self._unanswered.pop(connection, None)
        self._announced.forget_acknowledgements(connection)
        if connection.failures == 0:
            _log.info("lost registry %s: %s", connection.address, connection.error)

    def _forget(self, address: str) -> None:
        if all(connection.address != address for connection in self._seed_connections.connections()):
            self._merge.forget(address)

    def _refused(self, connection: RegistryConnection, reason: str) -> None:
        # It is asked again with each renewal; once is enough to say so.
        if reason not in self._refusals and len(self._refusals) < MAX_REFUSALS:
            self._refusals.add(reason)
            _log.warning("registry %s refused a record or note: %s", connection.address, quoted(reason, 300))

    # --- notes ---

    def _on_notes(self, connection: RegistryConnection, notes: list[Note]) -> None:
        """A registry has these."""
        self._take_notes(notes, connection.address)
        # Of others there is nothing that it could be told.
        told = self._told[connection]
        told.update(((note.namespace, note.key), note.rank) for note in notes if self._notes.get(note.namespace, note.key))
        if len(told) > 2 * MAX_ALL_NOTES:
            self._forget_told(told)

    def _take_notes(self, notes: list[Note], writer: str = OWN) -> bool:
        is_news = bool(self._notes.take(notes, time.time(), writer))
        if is_news:
            self._notes_changed(time.monotonic())
        return is_news

    def _notes_changed(self, now: float) -> None:
        self._has_changed = True
        if self._cache is not None:
            self._save_notes_at = min(self._save_notes_at, now + SAVE_EVERY)

    def _tell_notes(self, now: float) -> None:
        """Registries that lack some, or have older ones, are told."""
        self._tell_at = NEVER
        for connection, told in self._told.items():
            news = self._unknown_to(connection)
            for start in range(0, len(news), protocol.MAX_NOTES):
                message = protocol.PutNotes(next(self._note_requests), news[start : start + protocol.MAX_NOTES])
                if not connection.send(message):
                    self._tell_at = now + IDLE
                    break
                self._unanswered[connection].add(message.request)
                told.update(((note.namespace, note.key), note.rank) for note in message.notes)

    def _unknown_to(self, connection: RegistryConnection) -> list[Note]:
        told = self._told.get(connection, {})
        return [note for note in self._notes if note.rank > told.get((note.namespace, note.key), (-1, False, ""))]

    def _is_acknowledged(self, connections: list[RegistryConnection]) -> bool:
        """Every one of these registries has what we announced, and all notes."""
        return self._announced.is_acknowledged(connections) and not any(
            self._unanswered.get(connection) or self._unknown_to(connection) for connection in connections
        )

    def _read_notes(self, now: float) -> None:
        self._read_notes_at = now + READ_NOTES_EVERY
        if self._notes.expire(time.time()):
            self._notes_changed(now)
        for told in self._told.values():
            self._forget_told(told)

    def _forget_told(self, told: Told) -> None:
        for place in [place for place in told if self._notes.get(*place) is None]:
            del told[place]

    def _save_notes(self, now: float) -> None:
        self._save_notes_at = NEVER
        if self._cache is not None:
            # Others may have written theirs meanwhile, with no registry between us.
            self._take_notes(self._cache.load_notes())
            self._save_notes_at = NEVER
            self._cache.save_notes(self._notes)

    # --- our own records ---

    def _tell(self, instance: str) -> None:
        for connection in self._seed_connections.connections():
            if connection.state == UP:
                for message in self._announced.messages(connection, [instance]):
                    connection.send(message)

    def _renew(self, now: float) -> None:
        for message in self._announced.renewals():
            for connection in self._seed_connections.connections():
                connection.send(message)
        self._renew_at = self._next_renewal(now)

    def _next_renewal(self, now: float) -> float:
        # Every third of the shortest ttl, with jitter: two renewals may be lost before a lease is.
        return now + self._announced.shortest_ttl() / 3 * random.uniform(0.8, 1.2)

    def _answer_flushes(self, now: float) -> None:
        if not self._flushes:
            return
        connections = self._seed_connections.connections()
        connected = [one for one in connections if one.state in (UP, SUBSCRIBING) and one.boot_id is not None]
        is_acknowledged = bool(connected) and self._is_acknowledged(connected)
        may_come = self._seed_connections.is_first_look() or any(
            connection.state not in (UP, WAITING) and now - connection.opened_at < HOPE for connection in connections
        )
        for flush in list(self._flushes):
            flush.good_enough = is_acknowledged
            if is_acknowledged and not may_come:
                flush.done.set()
            if flush.done.is_set():
                self._flushes.remove(flush)

    # --- what others see ---

    def _publish(self, now: float) -> None:
        if self._merge.settle(now):
            self._has_changed = True
        before, statuses = self.published, self._seed_connections.statuses()
        if self._has_changed or statuses != before.statuses:
            contact = {connection.address: connection for connection in self._seed_connections.connections()}
            known = dict(self._merge.known)
            notes = tuple(self._notes) if self._has_changed else before.notes
            self.published = before.next(now, known, statuses, self._merge.is_fresh, contact, notes)
        if self._has_changed or self.published.is_fresh is not before.is_fresh:
            self._has_changed = False
            self._save_at = min(self._save_at, max(now, self._saved_at + SAVE_EVERY))
            self._to_call.update(self._callbacks)
        if self._to_call:
            self._call_back(now)

    def _call_back(self, now: float) -> None:
        tokens, self._to_call = self._to_call, set()
        view = self.published.view(now)
        for token in tokens:
            callback = self._callbacks.get(token)
            if callback is None:
                continue
            try:
                callback(view)
            except Exception:
                _log.exception("a subscriber of directory %s failed", self._name)

    def _save(self, now: float) -> None:
        self._save_at = NEVER
        # Only what a registry vouches for is good: a view nobody confirmed must not replace one that was.
        if self._cache is not None and self._merge.is_fresh:
            self._saved_at = now
            known = self._merge.known.values()
            self._cache.save((item.record, max(0.0, now - item.heard_at)) for item in known)
