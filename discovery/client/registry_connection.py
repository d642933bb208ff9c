"""The connection of a client to one registry, and the state of the conversation.

Used on the directory's own thread only. A `DirectoryListener` decides what the messages mean for the view.
"""

from __future__ import annotations

import itertools

import zmq

from discovery import protocol, sockets
from discovery.client.connection import CONNECTING, SUBSCRIBING, UP, DirectoryListener
from discovery.client.key_choice import KeyChoice
from discovery.client.socket_connection import ATTEMPT, SocketConnection
from discovery.exceptions import DirectoryOverloadError, DirectoryProtocolError, SecurityError
from discovery.interest import Interest, grown
from discovery.model import quoted
from discovery.native import Log
from discovery.security.keys import Keys
from discovery.security.renewal import learn, lists_of, registries_of

_log = Log(__name__)

#: Seconds of silence after which the connection to a registry is closed. It sends a heartbeat every second.
SILENCE = 3.5
#: Seconds until the next attempt after a registry has sent more than any registry may hold.
OVERLOAD_PAUSE = 60.0
#: The most warnings about skipped records and notes, for each registry.
MAX_SKIP_WARNINGS = 10
#: The number of the first request that extends the interest. Requests about records and notes never get so far.
FIRST_EXTENSION = 1 << 41


class RegistryConnection(SocketConnection):
    """The connection to the registry at one address."""

    def __init__(
        self,
        address: str,
        namespace: str | None,
        listener: DirectoryListener,
        longest_pause: float,
        hint: str = "",
        keys: Keys | None = None,
    ) -> None:
        super().__init__(address, listener, longest_pause)
        self._keys = keys
        #: The generation of the keys that the registry was shown.
        self._presented = -1
        #: The key that the registry at this address has, or may have.
        self._key_choice = KeyChoice()
        self._namespace = namespace
        self._seq = 0
        self._parts: list[protocol.Snapshot] = []
        #: Bytes of each record as received (an equal share of its part of the snapshot), and of all records.
        self._sizes: dict[str, int] = {}
        self._held = 0
        self._skipped: set[str] = set()
        #: The confirmation of the last mark, if it could not be sent yet.
        self._unsent_read: protocol.Read | None = None
        self._extensions: dict[int, frozenset[str]] = {}
        self._numbers = itertools.count(FIRST_EXTENSION)
        #: Advice for the error text when something that is not a registry listens at the address.
        self._hint = hint

    def _new_socket(self) -> zmq.Socket[bytes]:
        if self._keys is None:
            return sockets.client_socket()
        self._key_choice.offer(self._keys.registry_keys)
        if not self._key_choice.keys:
            raise SecurityError(self._keys.why_no_registry())
        return sockets.client_socket(keys=self._keys, server_key=self._key_choice.key)

    def _close(self) -> None:
        super()._close()
        self._parts, self._sizes, self._held, self._unsent_read = [], {}, 0, None

    def send(self, message: protocol.Message) -> bool:
        """True when the connection took it."""
        if self._socket is None or self.state not in (SUBSCRIBING, UP):
            return False
        return bool(sockets.try_send(self._socket, [protocol.encode(message)]))

    def _foreign(self, now: float) -> None:
        """Another kind of server accepted the connection, or a registry that is frozen or has another key."""
        goes_on = self.state == CONNECTING and self._key_choice.try_next()
        error = "what listens there does not answer as a registry does"
        if self._keys is not None:
            error += ", or does not encrypt with a key of this cluster's registries (SECURITY)"
        else:
            error += ", or encrypts its connections (SECURITY)"
        if self._hint:
            error = f"{error}; {self._hint}"
        if self._hint and not goes_on:
            self._warn(now, "no registry at %s: %s", self.address, error)
        self.close(now, error)
        if goes_on:
            # With the next key, at once.
            self.goes_on, self.retry_at = True, now

    def check(self, now: float) -> None:
        """Closes a connection or ends an attempt that took too long."""
        if self._unsent_read is not None and self.send(self._unsent_read):
            self._unsent_read = None
        super().check(now)

    def _silent(self, now: float) -> None:
        self.close(now, f"it was silent for {SILENCE:g} s")

    def _begin(self, now: float) -> None:
        self._key_choice.succeeded()
        if self._keys is not None:
            self._present(self._keys)
        self._subscribe(now)

    def _present(self, keys: Keys) -> None:
        """Sends the certificate, and what is known of others: first of all, and again after each change."""
        self._presented = keys.generation
        self.send(protocol.Present(keys.signed))
        for message in protocol.Revoked.apart(lists_of(keys), registries_of(keys)):
            self.send(message)

    def _look_at_keys(self, keys: Keys, now: float) -> bool:
        """After a change of the keys: whether the registry is still believed. If not, the connection ends."""
        why = keys.refusal_of_registry(self._key_choice.key)
        if not why:
            self._present(keys)
            return True
        _log.warning("left registry %s: %s", self.address, why)
        self.close(now, why)
        return False

    def _subscribe(self, now: float) -> None:
        self._parts = []
        self._deadline = now + ATTEMPT
        self._extensions = {}
        self.asked = interest = self._listener.interest
        self.send(protocol.Subscribe(self._namespace, None if interest is None else sorted(interest), True))

    def extend(self, keys: Interest, now: float) -> None:
        """Asks for the records under these keys as well. If the socket has no room, the next round calls this again."""
        if keys is None:
            self._subscribe_again(now)
            return
        request = next(self._numbers)
        if self.send(protocol.Extend(request, sorted(keys))):
            self._extensions[request] = keys
            self.asked = grown(self.asked, keys)

    def _subscribe_again(self, now: float) -> None:
        self.state = SUBSCRIBING
        self._subscribe(now)

    def _take_frames(self, frames: list[bytes], now: float) -> None:
        if len(frames) != 1:
            raise DirectoryProtocolError(f"a message of {len(frames)} frames")
        try:
            self._take(protocol.decode_push(frames[0], self._skip), len(frames[0]), now)
        except DirectoryOverloadError as exc:
            _log.warning("left registry %s alone for %g s: %s", self.address, OVERLOAD_PAUSE, exc)
            self.close(now, f"it sent too much: {exc}", OVERLOAD_PAUSE)

    def _skip(self, reason: str) -> None:
        # One unusable record, perhaps of a newer release, must not hide the others. It is in every snapshot.
        reason = reason[:300]
        if reason not in self._skipped and len(self._skipped) < MAX_SKIP_WARNINGS:
            self._skipped.add(reason)
            _log.warning("skipped a record or note of registry %s: %s", self.address, reason)

    def _unreadable(self, instance: str, reason: str) -> None:
        """Called on the thread that decodes a record of a block first."""
        self._listener.on_unreadable(instance, lambda: self._skip(reason))

    def _take(self, message: protocol.Message | protocol.SkippedUpdate, size: int, now: float) -> None:
        self.last_contact = now
        if self._keys is not None and self._presented != self._keys.generation and not self._look_at_keys(self._keys, now):
            return
        if isinstance(message, protocol.Revoked):
            if self._keys is not None:
                learn(self._keys, message.lists, message.registries)
        elif isinstance(message, protocol.Mark):
            answer = protocol.Read(message.token)
            self._unsent_read = None if self.send(answer) else answer
        elif isinstance(message, protocol.Snapshot):
            self._take_snapshot(message, size, now)
        elif isinstance(message, protocol.Refused) and message.request == 0:
            self.close(now, f"it refused: {quoted(message.reason, 200)}")
        elif self.state == SUBSCRIBING and isinstance(message, protocol.Heartbeat):
            # If many clients connect at once, each waits its turn for the snapshot. Giving up now would make the wait longer.
            self._deadline = now + ATTEMPT
        elif self.state == UP or isinstance(message, protocol.Ack | protocol.Refused | protocol.Unknown):
            self._take_push(message, size, now)

    def _take_snapshot(self, message: protocol.Snapshot, size: int, now: float) -> None:
        if message.part != len(self._parts):
            self._parts = []
            return
        if message.part == 0:
            self._sizes, self._held = {}, 0
        self._parts.append(message)
        self._held += size
        self._sizes.update((entry[0].instance, size // len(message.entries)) for entry in message.entries)
        for block in message.blocks:
            # The bytes that they take once all of them are decoded.
            self._sizes.update(block.sizes())
            self._held += block.contents.size
            block.contents.on_bad = self._unreadable
        records = sum(len(part.entries) + sum(len(block.entries) for block in part.blocks) for part in self._parts)
        items = max(records, sum(len(part.notes) for part in self._parts))
        self._check_bounds(max(message.parts, len(self._parts)), items)
        self._deadline = now + ATTEMPT
        if message.parts != len(self._parts):
            return
        parts, self._parts = self._parts, []
        self.state = UP
        self.error = None
        self.failures = 0
        self.boot_id, self._seq, self.is_warming = message.boot_id, message.seq, message.warming
        if not message.limited:
            self.asked = None  # The registry has an earlier release, or was asked for everything.
        self.answered = self.asked
        self._deadline = now + SILENCE
        self._listener.on_up(self, parts, now)

    def _check_bounds(self, parts: int, items: int) -> None:
        if parts > protocol.MAX_PARTS or items > protocol.MAX_ENTRIES or self._held > protocol.MAX_HELD:
            raise DirectoryOverloadError(
                f"{parts} parts, {items} records or notes, {self._held} bytes; the most are {protocol.MAX_PARTS}, "
                f"{protocol.MAX_ENTRIES} and {protocol.MAX_HELD}"
            )

    def _count(self, message: protocol.Update | protocol.Drop, size: int) -> None:
        if isinstance(message, protocol.Drop):
            self._held -= self._sizes.pop(message.instance, 0)
            return
        instance = message.record.instance
        self._held += size - self._sizes.get(instance, 0)
        self._sizes[instance] = size
        self._check_bounds(0, len(self._sizes))

    def _take_push(self, message: protocol.Message | protocol.SkippedUpdate, size: int, now: float) -> None:
        self._deadline = now + SILENCE
        if isinstance(
            message, protocol.Update | protocol.Drop | protocol.Heartbeat | protocol.NotesChanged | protocol.SkippedUpdate
        ):
            step = 0 if isinstance(message, protocol.Heartbeat) else 1
            if message.boot_id != self.boot_id or message.seq != self._seq + step:
                _log.info("missed updates of registry %s, asked for a new snapshot", self.address)
                self._subscribe_again(now)
                return
            self._seq = message.seq
            if isinstance(message, protocol.Heartbeat):
                self.is_warming = message.warming
            elif isinstance(message, protocol.Update | protocol.Drop):
                self._count(message, size)
        if isinstance(message, protocol.Ack) and message.request in self._extensions:
            self.answered = grown(self.answered, self._extensions.pop(message.request))
            self._listener.on_extended(self, now)
        elif not isinstance(message, protocol.SkippedUpdate):
            self._listener.on_message(self, message, now)
