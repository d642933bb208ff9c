"""The state of a client: what its thread does with the requests of callers and the messages of registries.

Used on the directory's own thread only. Other threads may read `published`, `ready` and `answered`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import zmq

from discovery import protocol
from discovery.backend import Callback
from discovery.client.announcements import Announcements
from discovery.client.cache import DiskCache
from discovery.client.connection import SUBSCRIBING, UP, WAITING, DirectoryConnection, Post
from discovery.client.merge import OWN, Known, Merge, MergedRecord
from discovery.client.note_exchange import NoteExchange
from discovery.client.published import Published
from discovery.client.seed_connections import NEVER, SeedConnections
from discovery.client.seeds import Seed
from discovery.client.verified import Gate, VerifiedListener
from discovery.client.view_saver import ViewSaver
from discovery.client.view_subscribers import ViewSubscribers
from discovery.client.waiters import Answered, AnsweredInterest, Flush, Flushes
from discovery.interest import Interest, covers, grown, wants
from discovery.model import Note, Record, quoted
from discovery.native import Log, NativeEvent

_log = Log(__name__)

#: Seconds between two rounds when nothing happens.
IDLE = 1.0
#: Seconds between two rounds while a flush, a record's grace or a stop waits.
EAGER = 0.05
#: Seconds between two checks whether own records must be signed again.
SIGN_AGAIN_INTERVAL = 10.0
#: Seconds for which `flush` considers a registry reachable while the first attempt to connect goes on.
FIRST_ATTEMPT = 1.0
#: Different refusals that are logged, each once.
MAX_REFUSALS = 10
#: Seconds after which a registry that does not answer is named in the log, once for each outage. Commands end before that.
OUTAGE_TOLD = 10.0


class ClientState:
    """Everything that the thread of one directory owns. `post` has that thread call a function; any thread may call `post`."""

    def __init__(
        self,
        name: str,
        seeds: list[Seed],
        namespace: str | None,
        cache: DiskCache | None,
        longest_pause: float,
        post: Post,
        now: float,
        interest: Interest = None,
        gate: Gate | None = None,
    ) -> None:
        self.ready = NativeEvent()
        #: The records that are wanted now.
        self.interest = interest
        self._answered = AnsweredInterest()
        #: Whether some registry or engine has told more than the interest.
        self._tells_everything = False
        self._post = post
        if cache is not None:
            cache.on_bad = self._unreadable_in_cache
        #: Signs and verifies in a closed cluster.
        self._gate = gate
        listener = self if gate is None else VerifiedListener(self, gate)
        self._seed_connections = SeedConnections(seeds, namespace, listener, longest_pause, post, self._address_removed)
        self.published = Published({}, self._seed_connections.statuses(), False, now, {})
        self._merge = Merge(interest)
        self._merge.snapshot(OWN, [], warming=True)
        self._saver = ViewSaver(cache, self._merge)
        self._announced = Announcements(None if gate is None else gate.signer)
        self._sign_again_at = now
        #: The certificate with which the own records were signed last.
        self._certificate = b"" if gate is None else gate.signer.certificate
        self._notes = NoteExchange(cache, None if gate is None else gate.signer, self._notes_changed, now)
        self._subscribers = ViewSubscribers(name)
        self._flushes = Flushes()
        self._refusals: set[str] = set()
        self._renew_at = NEVER
        self._stop_at: float | None = None
        self._has_changed = False

    @property
    def answered(self) -> Interest:
        """The interest of which some registry has told all records, be it long ago."""
        return self._answered.interest

    # --- requests of callers ---

    def announce(self, record: Record, now: float) -> None:
        """Sends a record of this process to all registries."""
        self._merge.update(OWN, MergedRecord(record, now))
        self._announced.announce(record)
        self._send_announcement(record.instance)
        self._renew_at = min(self._renew_at, self._next_renewal(now))

    def withdraw(self, record: Record, now: float) -> None:
        """Removes a record of this process at all registries."""
        self._merge.drop(OWN, record.instance, record.rank, withdrawn=True)
        self._announced.withdraw(record, now)
        self._send_announcement(record.instance)

    def put(self, note: Note, is_new: bool, now: float) -> None:
        """Stores a note at every registry; see `NoteExchange.put`."""
        self._notes.put(note, is_new, now)

    def flush(self, flush: Flush) -> None:
        """Sets `flush.done` once all reachable registries have acknowledged all changes."""
        self._flushes.add(flush)

    def want(self, keys: Interest, now: float) -> None:
        """Adds to the interest: asks all registries, and uses the records on disk until they have answered."""
        former, self.interest = self.interest, grown(self.interest, keys)
        self._merge.want(self.interest)
        self._saver.restore(self.interest if self.interest is None or former is None else self.interest - former, now)
        if self._tells_everything:
            self._answer(self._answered.beyond(self.interest), now)
        self._ask(now)

    def wait_answered(self, waiting: Answered) -> None:
        """Sets `waiting.done` once some registry has told all records of its interest."""
        self._answered.add(waiting)

    def _ask(self, now: float) -> None:
        """Asks the connected registries for what was not asked for yet."""
        for connection in self._seed_connections.connections():
            if connection.state == UP and connection.asked is not None and not covers(connection.asked, self.interest):
                connection.extend(None if self.interest is None else self.interest - connection.asked, now)

    def subscribe(self, token: object, callback: Callback) -> None:
        """Calls `callback` at the end of this round, and after each change."""
        self._subscribers.add(token, callback)

    def unsubscribe(self, token: object) -> None:
        """Ends a subscription."""
        self._subscribers.remove(token)

    def begin_to_stop(self, records: list[Record], now: float, timeout: float) -> None:
        """Withdraws `records`; the thread ends once that is acknowledged, or after `timeout` seconds."""
        self._stop_at = now + timeout
        self._seed_connections.end_attempts()
        for record in records:
            self.withdraw(record, now)
        # At once: this client may be the only one that has the notes which a new registry lacks.
        self._notes.send(now)

    # --- the rounds of the thread ---

    def restore(self, now: float) -> None:
        """Loads the last good view and the notes from disk."""
        self._saver.restore(self.interest, now)
        self._notes.load()

    def is_over(self, now: float) -> bool:
        """Whether the thread was told to stop and has nothing left to wait for."""
        if self._stop_at is None:
            return False
        connected = [connection for connection in self._seed_connections.connections() if connection.state in (UP, SUBSCRIBING)]
        return not connected or now >= self._stop_at or self._is_acknowledged(connected)

    def register_with(self, poller: zmq.Poller) -> None:
        """Registers the sockets that the thread waits for."""
        for connection in self._seed_connections.connections():
            connection.register_with(poller)

    def next_round(self, now: float) -> float:
        """The time until which the thread may wait."""
        times = [now + IDLE, self._renew_at, self._saver.save_at, self._seed_connections.next_attempt()]
        times.append(self._notes.next_round())
        times += [each.next_deadline() for each in self._seed_connections.connections() if each.state != WAITING]
        if self._flushes or self._merge.is_waiting or self._stop_at is not None:
            times.append(now + EAGER)
        return min(times)

    def take(self, ready: dict[Any, int], now: float) -> None:
        """Reads from the sockets that are ready, and then closes connections that were silent for too long."""
        connections = self._seed_connections.connections()
        for connection in connections:
            connection.handle(ready, now)
        # After the messages: a pause of this whole process must not count as silence of a registry.
        for connection in connections:
            connection.check(now)

    def work(self, now: float) -> None:
        """Does all work that is due, and publishes changes."""
        self._seed_connections.attempt(now)
        self._ask(now)
        if self._gate is not None and self._gate.signer.certificate != self._certificate:
            self._certificate = self._gate.signer.certificate
            self._sign_again_at = self._renew_at = now
        if now >= self._renew_at:
            self._renew(now)
        self._notes.work(now)
        self._publish(now)
        self._tell_ready()
        if now >= self._saver.save_at:
            self._saver.save(self.interest, now)
        self._notes.save(now)
        self._answer_flushes(now)

    def finish(self, now: float) -> None:
        """The last round: saves the view and closes all connections."""
        left = max(0.2, (self._stop_at or now) - now)
        self._publish(now)
        self._saver.save(self.interest, now)
        self._notes.finish()
        self._seed_connections.close(now, left)
        self._publish(now)

    # --- messages of registries (see connection.DirectoryListener) ---

    def on_up(self, connection: DirectoryConnection, snapshot: list[protocol.Snapshot], now: float) -> None:
        """The registry sent a snapshot: merge it, and send the registry our records and, soon, notes that it lacks."""
        entries = [
            MergedRecord(record, now - age, suspect) for part in snapshot for record, age, suspect in part.entries
        ]
        alone = (connection.address,)
        entries += [
            Known(packed, now - age, suspect, alone, True)
            for part in snapshot for block in part.blocks for packed, age, suspect in block.entries
        ]  # fmt: skip
        self._merge.snapshot(connection.address, entries, connection.is_warming, connection.answered)
        self._notes.up(connection, [note for part in snapshot for note in part.notes], now)
        if self._stop_at is not None:
            self._notes.send(now)
        self._announced.drop_old_tombstones(now)
        self._announced.reset_acknowledgements(connection)
        for message in self._announced.messages(connection):
            connection.send(message)
        _log.info("registry %s (boot %s) lists %d records", connection.address, connection.boot_id, len(entries))
        self._answer(connection.answered, now)
        self._tell_ready()
        self._ask(now)

    def _tell_ready(self) -> None:
        if not self.ready.is_set() and self._seed_connections.is_whole():
            self.ready.set()

    def on_extended(self, connection: DirectoryConnection, now: float) -> None:
        """The registry has sent all records that came into the interest."""
        self._merge.extended(connection.address, connection.answered)
        # Only the new part is answered: the rest is on disk already, and to write all of it for each name would be slow.
        self._answer(self._answered.beyond(connection.answered), now)

    def _answer(self, answered: Interest, now: float) -> None:
        if answered is None:
            # Records outside of the interest become known when the interest grows; it is answered then.
            self._tells_everything, answered = True, self.interest
        # The view is published first: callers that waited for the answer read it.
        self._saver.answered(answered, now)
        self._publish(now)
        self._answered.grow(answered)

    def on_message(self, connection: DirectoryConnection, message: protocol.Message, now: float) -> None:
        """The registry sent a change or an answer."""
        match message:
            case protocol.Update():
                record = message.record
                if wants(connection.asked, record):
                    self._merge.update(connection.address, MergedRecord(record, now - message.age, message.suspect))
                else:
                    # The record has changed and is not of interest any more: the registry will not tell when it is removed.
                    self._merge.drop(connection.address, record.instance, record.rank, withdrawn=False)
            case protocol.Drop():
                rank = (message.incarnation, message.version)
                self._merge.drop(connection.address, message.instance, rank, message.withdrawn)
            case protocol.Heartbeat():
                self._merge.warmed(connection.address, message.warming)
            case protocol.NotesChanged():
                self._notes.received(connection, message.notes, now)
            case protocol.Ack():
                self._announced.acknowledged(connection, message.request)
                self._notes.answered(connection, message.request)
            case protocol.Refused():
                self._announced.refused(connection, message.request)
                self._notes.answered(connection, message.request)
                self._refused(connection, message.reason)
            case protocol.Unknown():
                for again in self._announced.messages(connection, message.instances):
                    connection.send(again)

    def on_unreadable(self, instance: str, tell: Callable[[], None]) -> None:
        """A record turned out to be bad when it was decoded. Another registry's record of that instance, if any, replaces it."""

        def pass_over(now: float) -> None:
            tell()
            self._merge.pass_over(instance)

        self._post(pass_over)

    def _unreadable_in_cache(self, instance: str, reason: str) -> None:
        self.on_unreadable(instance, lambda: _log.warning("skipped a record of the directory cache: %.300s", reason))

    def on_down(self, connection: DirectoryConnection, now: float) -> None:
        """The connection ended, or the attempt failed."""
        self._merge.lost(connection.address, now)
        self._notes.down(connection)
        self._announced.reset_acknowledgements(connection)
        if connection.failures == 0:
            _log.info("lost registry %s: %s", connection.address, connection.error)
        elif not connection.is_outage_told and now - connection.failing_since >= OUTAGE_TOLD:
            connection.is_outage_told = True
            seconds = now - connection.failing_since
            _log.warning("registry %s has not answered for %.0f s: %s", connection.address, seconds, connection.error)

    def _address_removed(self, address: str) -> None:
        if all(connection.address != address for connection in self._seed_connections.connections()):
            self._merge.remove_registry(address)

    def _refused(self, connection: DirectoryConnection, reason: str) -> None:
        # The request is repeated with each renewal; one log line is enough.
        if reason not in self._refusals and len(self._refusals) < MAX_REFUSALS:
            self._refusals.add(reason)
            _log.warning("registry %s refused a record or note: %s", connection.address, quoted(reason, 300))

    def _is_acknowledged(self, connections: list[DirectoryConnection]) -> bool:
        """Whether each of these registries has acknowledged our records and all notes."""
        return self._announced.is_acknowledged(connections) and all(map(self._notes.is_acknowledged, connections))

    # --- our own records ---

    def _send_announcement(self, instance: str) -> None:
        for connection in self._seed_connections.connections():
            if connection.state == UP:
                for message in self._announced.messages(connection, [instance]):
                    connection.send(message)

    def _renew(self, now: float) -> None:
        if self._gate is not None and now >= self._sign_again_at:
            self._sign_again_at = now + SIGN_AGAIN_INTERVAL
            for instance in self._announced.sign_again():
                self._send_announcement(instance)
        for message in self._announced.renewals():
            for connection in self._seed_connections.connections():
                connection.send(message)
        self._renew_at = self._next_renewal(now)

    def _next_renewal(self, now: float) -> float:
        # After a third of the shortest ttl, with jitter: two renewals may be lost before the lease runs out.
        return now + self._announced.shortest_ttl() / 3 * random.uniform(0.8, 1.2)

    def _answer_flushes(self, now: float) -> None:
        if not self._flushes:
            return
        connections = self._seed_connections.connections()
        connected = [one for one in connections if one.state in (UP, SUBSCRIBING) and one.boot_id is not None]
        is_acknowledged = bool(connected) and self._is_acknowledged(connected)
        may_come = self._seed_connections.has_unresolved_seeds() or any(
            connection.state not in (UP, WAITING) and now - connection.opened_at < FIRST_ATTEMPT for connection in connections
        )
        self._flushes.tell(is_acknowledged, may_come)

    # --- the published view ---

    def _notes_changed(self) -> None:
        self._has_changed = True

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
            self._saver.has_changed(now)
            self._subscribers.has_changed()
        self._subscribers.call(lambda: self.published.view(now))
