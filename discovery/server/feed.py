"""Sends snapshots, changes and answers to the clients of a registry, as fast as each client reads.

    SUBSCRIBE --> the parts of a snapshot, then each change of interest, numbered without a gap
    EXTEND    --> the records that came into the interest, as changes, then the ACK

Rule 1: no sockets and no threads here: frames leave through `send`, time comes from `clock`.
Rule 2: a record is encoded once for each of its changes, however many clients it is sent to.
Rule 3: large snapshots are sent in turns, a part to each client, so that no renewal waits while many clients connect.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from time import monotonic

from discovery import protocol
from discovery.interest import Interest
from discovery.model import Note
from discovery.notes import NoteStore
from discovery.server import pacing
from discovery.server.audience import Audience
from discovery.server.block_store import BlockStore
from discovery.server.changes import Change, Removed, Updated
from discovery.server.limits import RegistryLimits
from discovery.server.pacing import Key, SubscriberConnection, TrackedSubscriber
from discovery.server.table import Table

#: The number of connections that are answered, as a multiple of the most subscribers.
CLIENTS_PER_SUBSCRIBER = 2
#: The most changes that are sent to one subscriber before the next one gets its turn.
CHANGES_IN_TURN = 100

#: Sends a frame to a connection. True if it was taken, False if there is no room now, None if the connection has ended.
Send = Callable[[bytes, bytes], bool | None]


class ChangeFeed:
    """The connections of one registry. The owner of `table` and `notes` reports each change of them."""

    def __init__(
        self,
        boot_id: str,
        table: Table,
        notes: NoteStore,
        send: Send,
        clock: Callable[[], float] = monotonic,
        limits: RegistryLimits | None = None,
        on_end: Callable[[bytes], object] = lambda peer: None,
    ) -> None:
        self._limits = limits = limits or RegistryLimits()
        self._too_many_names = f"this registry is full: its subscribers ask for {limits.max_watched_names} names"
        self.boot_id = boot_id
        self._table = table
        self._notes = notes
        self._send_to = send
        #: Called with each connection that has ended, or to which nothing more is sent.
        self._on_end = on_end
        self._clock = clock
        self.clients: dict[bytes, SubscriberConnection] = {}
        self.subscribers: dict[bytes, TrackedSubscriber] = {}
        #: When a change was last sent to subscribers.
        self.pushed_at = float("-inf")
        self._audience = Audience()
        self._blocks = BlockStore(table)
        #: Subscribers that may be sent waiting frames, in the order of their turns.
        self._turns: dict[bytes, None] = {}

    # --- requests of clients -----------------------------------------------------------------------------------------

    def subscribe(self, peer: bytes, message: protocol.Subscribe, now: float) -> None:
        """Send a snapshot, and from then on each change."""
        if peer not in self.subscribers and len(self.subscribers) >= self._limits.max_clients:
            self.answer(peer, protocol.Refused(0, f"this registry is full: it has {self._limits.max_clients} subscribers"))
            return
        client = self._client(peer)
        if client is None or client.is_refused:
            return
        interest = None if message.interest is None else frozenset(message.interest)
        if interest is not None and self._audience.keys + len(interest) > self._limits.max_watched_names:
            self.answer(peer, protocol.Refused(0, self._too_many_names))
            return
        namespace = message.namespace
        parts = self._snapshot(namespace, interest, message.takes_blocks, now)
        self._audience.add(peer, namespace, interest)
        self.subscribers[peer] = TrackedSubscriber(client, namespace, interest, parts, self._withdrawn(namespace, interest, now))
        self._turns[peer] = None

    def _snapshot(self, namespace: str | None, interest: Interest, in_blocks: bool, now: float) -> Iterator[bytes]:
        # Records are looked up when their part is made, so a client that does not read costs only the names of its records.
        table = self._table
        places = table.places(namespace, interest) if in_blocks else []
        instances = table.instances_beside(namespace, interest) if in_blocks else table.instances(namespace, interest)
        held = (table.packed(instance, self._clock()) for instance in instances)
        noted = (self._notes.get(*place) for place in self._notes.places(namespace))
        return protocol.snapshot_parts(
            self.boot_id,
            0,
            table.is_warming(now),
            (protocol.packed_entry(*entry) for entry in held if entry),
            (note for note in noted if note),
            limited=interest is not None,
            blocks=(block for place in places for block in self._blocks.of(place, self._clock())),
        )

    def extend(self, peer: bytes, message: protocol.Extend, now: float) -> None:
        """Add to the interest of a subscriber: send the records as changes, and then the acknowledgement."""
        subscriber = self.subscribers.get(peer)
        if subscriber is None or subscriber.interest is None:
            self.answer(peer, protocol.Refused(message.request, "only a subscriber with an interest can extend it"))
            return
        if self._audience.keys + len(message.interest) > self._limits.max_watched_names:
            self._refuse(peer, self._too_many_names)
            return
        news = self._audience.extend(peer, message.interest)
        subscriber.interest |= news
        subscriber.defer(self._withdrawn(subscriber.namespace, news, now))
        if subscriber.defer(dict.fromkeys(self._table.instances(subscriber.namespace, news))):
            subscriber.acks.append(message.request)
            self._turns[peer] = None
        else:
            self._refuse_pending(peer)

    def _withdrawn(self, namespace: str | None, interest: Interest, now: float) -> dict[Key, Removed | None]:
        # During the warm-up clients keep records that are not listed, so a new client must learn of earlier withdrawals.
        gone = self._table.tombstones(namespace, interest) if self._table.is_warming(now) else []
        return {one.instance: one for one in gone}

    def read(self, peer: bytes, message: protocol.Read) -> None:
        """A client has read everything up to a mark, so more may be sent to it."""
        client = self.clients.get(peer)
        if client is not None and client.read(message.token) and peer in self.subscribers:
            self._turns[peer] = None

    def answer(self, peer: bytes, message: protocol.Message) -> None:
        """Send an answer at once, unless the client leaves too many of them unread."""
        client = self._client(peer)
        if client is None or client.is_refused:
            return
        if client.unread > self._most() + pacing.ANSWER_ROOM:
            self._refuse(peer, f"you left {client.unread} bytes unread")
            return
        self._send(peer, protocol.encode(message))

    # --- changes ------------------------------------------------------------------------------------------------

    def push(self, changes: Iterable[Change]) -> None:
        """Send changes of the table to the subscribers that they are of interest to."""
        for change in changes:
            if isinstance(change, Updated):
                record = change.record
                push = self._update(record.instance)
                if push is not None:
                    self._push_to(self._audience.of(record.namespace, change.keys), push, {record.instance: None})
            else:
                peers = self._audience.of(change.namespace, change.keys)
                self._push_to(peers, self._drop(change), {change.instance: change})

    def push_notes(self, notes: Iterable[Note]) -> None:
        """Send new notes to all subscribers of their namespace, whatever their interest."""
        by_namespace: dict[str, list[Note]] = {}
        for note in notes:
            by_namespace.setdefault(note.namespace, []).append(note)
        for namespace, told in by_namespace.items():
            news: dict[Key, Removed | None] = {(namespace, note.key): None for note in told}
            self._push_to(self._audience.of(namespace, None), self._notes_changed(told), news)

    def heartbeat(self, warming: bool) -> None:
        """Tell every subscriber that the registry is alive; this also finds connections that have ended."""
        push = protocol.Push(protocol.Heartbeat(0, self.boot_id, warming))
        for peer, subscriber in list(self.subscribers.items()):
            if subscriber.is_waiting:
                self._turns[peer] = None
            self._send(peer, push.frame(subscriber.seq))

    def check_clients(self, warming: bool) -> None:
        """Find out which of the clients that have not subscribed are still connected. They ignore the heartbeat."""
        frame = protocol.encode(protocol.Heartbeat(0, self.boot_id, warming))
        for peer in [peer for peer in self.clients if peer not in self.subscribers]:
            self._send(peer, frame)

    # --- waiting frames --------------------------------------------------------------------------------------------------

    @property
    def has_turns(self) -> bool:
        """Whether a waiting frame may be sent now."""
        return bool(self._turns)

    def take_turns(self, seconds: float) -> None:
        """Send waiting frames for about this many seconds: one part or some changes to each subscriber in turn."""
        end = self._clock() + seconds
        while self._turns:
            peer = next(iter(self._turns))
            del self._turns[peer]
            if self._take_turn(peer):
                self._turns[peer] = None
            if self._clock() >= end:
                return

    def _take_turn(self, peer: bytes) -> bool:
        """Send waiting frames to a subscriber. True if it may be sent more at once."""
        subscriber = self.subscribers.get(peer)
        most = self._most()
        for _ in range(CHANGES_IN_TURN):
            if subscriber is None or self.subscribers.get(peer) is not subscriber or subscriber.client.unread >= most:
                return False
            if subscriber.parts is not None:
                return self._send_part(peer, subscriber)
            if subscriber.pending:
                if not self._send_pending(peer, subscriber):
                    return False
            elif subscriber.acks:
                if not self._send(peer, protocol.encode(protocol.Ack(subscriber.acks[0]))):
                    return False
                subscriber.acks.pop(0)
            else:
                return False
        return True

    def _send_part(self, peer: bytes, subscriber: TrackedSubscriber) -> bool:
        assert subscriber.parts is not None
        frame = next(subscriber.parts, None)
        if frame is None:
            subscriber.parts = None
            return True
        if self._send(peer, frame):
            return True
        subscriber.parts = itertools.chain([frame], subscriber.parts)
        return False

    def _send_pending(self, peer: bytes, subscriber: TrackedSubscriber) -> bool:
        key = next(iter(subscriber.pending))
        gone = subscriber.pending.pop(key)
        push = self._push_of(key, gone, subscriber.namespace)
        if push is None or self._send_push(peer, subscriber, push):
            return True
        subscriber.put_back(key, gone)
        return False

    def _push_of(self, key: Key, gone: Removed | None, namespace: str | None) -> protocol.Push | None:
        if isinstance(key, tuple):
            note = self._notes.get(*key)
            return None if note is None else self._notes_changed([note])
        if gone is not None:
            return self._drop(gone)
        return self._update(key) if namespace in (None, self._table.namespace_of(key)) else None

    def _update(self, instance: str) -> protocol.Push | None:
        entry = self._table.packed(instance, self._clock())
        return None if entry is None else protocol.Push.of_update(self.boot_id, *entry)

    def _drop(self, gone: Removed) -> protocol.Push:
        return protocol.Push(protocol.Drop(0, self.boot_id, gone.instance, *gone.rank, gone.withdrawn, gone.signed))

    def _notes_changed(self, notes: list[Note]) -> protocol.Push:
        return protocol.Push(protocol.NotesChanged(0, self.boot_id, notes))

    # --- sending -----------------------------------------------------------------------------------------------------

    def _most(self) -> int:
        return pacing.share(len(self.clients), self._limits.max_unread_bytes)

    def _push_to(self, peers: list[bytes], push: protocol.Push, news: dict[Key, Removed | None]) -> None:
        if not peers:
            return
        self.pushed_at = self._clock()
        most = self._most()
        for peer in peers:
            subscriber = self.subscribers.get(peer)
            if subscriber is None:
                continue
            if subscriber.is_behind(most) or not self._send_push(peer, subscriber, push):
                if not subscriber.defer(news):
                    self._refuse_pending(peer)

    def _send_push(self, peer: bytes, subscriber: TrackedSubscriber, push: protocol.Push) -> bool:
        """Sends one change. False when there is no room: then the change must wait."""
        subscriber.seq += 1
        if self._send(peer, push.frame(subscriber.seq)):
            return True
        subscriber.seq -= 1
        return False

    def _client(self, peer: bytes) -> SubscriberConnection | None:
        client = self.clients.get(peer)
        if client is None:
            most = CLIENTS_PER_SUBSCRIBER * self._limits.max_clients
            if len(self.clients) < most:
                client = self.clients[peer] = SubscriberConnection()
            else:
                # This connection is not tracked: it gets only as much as its queue in ZeroMQ takes.
                text = f"this registry is full: it answers {most} connections (max_clients is {self._limits.max_clients})"
                self._send_to(peer, protocol.encode(protocol.Refused(0, text)))
        return client

    def _refuse_pending(self, peer: bytes) -> None:
        self._refuse(peer, f"more than {pacing.MAX_PENDING} changes wait for you")

    def _refuse(self, peer: bytes, reason: str) -> None:
        """Tells a client to connect again, and sends it nothing more."""
        self._unsubscribe(peer)
        client = self.clients.get(peer)
        if client is not None:
            client.is_refused = True
            self._on_end(peer)
            self._send(peer, protocol.encode(protocol.Refused(0, f"{reason}; connect again")))

    def cut_off(self, peer: bytes, reason: str) -> None:
        """Tell a client why nothing more is sent to it."""
        self._refuse(peer, reason)

    def _unsubscribe(self, peer: bytes) -> None:
        self.subscribers.pop(peer, None)
        self._audience.remove(peer)
        self._turns.pop(peer, None)

    def _send(self, peer: bytes, frame: bytes) -> bool:
        """Sends a frame. False when there is no room for now, or when the client has disconnected."""
        sent = self._send_to(peer, frame)
        if sent is None:
            self._unsubscribe(peer)
            self.clients.pop(peer, None)
            self._on_end(peer)
        client = self.clients.get(peer)
        if sent and client is not None and client.sent(len(frame)):
            token = client.new_token()
            if self._send_to(peer, protocol.encode(protocol.Mark(token))):
                client.marked(token)
        return bool(sent)
