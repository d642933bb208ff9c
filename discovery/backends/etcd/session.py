"""The session of a directory's client with one member of etcd."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from discovery import protocol
from discovery.backend import Believes, everything
from discovery.backends.etcd import gateway as members
from discovery.backends.etcd import locks
from discovery.backends.etcd.gateway import EtcdGateway
from discovery.backends.etcd.leases import EtcdLeases
from discovery.backends.etcd.messages import Answer, Event
from discovery.backends.etcd.reading import EtcdListing, leases_of, read
from discovery.backends.etcd.requests import Body, decoded, delete, encoded, held_in, put, put_if_unchanged, transactions
from discovery.backends.etcd.watch import WatchConnection
from discovery.backends.etcd.watched import WatchedRange, WatchedRanges
from discovery.backends.keyspace import Keyspace
from discovery.backends.opening import Server, open_first, servers_in_turn
from discovery.backends.stream import EngineStream
from discovery.backends.tls import tls_context
from discovery.backends.urls import EngineUrl
from discovery.client.engine_session import Change, Contents, Gone, Vacant
from discovery.client.locks import EngineLock, Held
from discovery.exceptions import EngineError
from discovery.interest import Interest, grown
from discovery.model import Note, Record
from discovery.native import Log
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)

#: The longest time in seconds between two calls of `keep`.
KEEP_EVERY = 2.0
#: Seconds between two checks that those keys of this process that it does not watch are still there.
LOOK_EVERY = 10.0
#: The most bytes of one answer of a watch. etcd's own limit for a request is 1.5 MB.
LONGEST_ANSWER = protocol.MAX_HELD


class EtcdSession:
    """An `EngineSession` with one member: the first one that answers. Each attempt begins with another member.

    `is_closed`: whether the cluster has SECURITY.
    """

    def __init__(
        self, url: EngineUrl, namespace: str | None, believes: Believes = everything, is_closed: bool = False
    ) -> None:
        self._url = url
        self._believes = believes
        root = "/" + "".join(f"{quote(part, safe='')}/" for part in url.prefix.split("/"))
        self._keyspace = Keyspace(url.name, root, namespace, is_closed=is_closed)
        self._namespace = namespace
        self._servers = servers_in_turn(url.servers)
        self._member: EtcdGateway | None = None
        self._watched = WatchedRanges()
        self._watch_stream: EngineStream | None = None
        self._is_closed = False
        self._leases = EtcdLeases()
        self._look_at = time.monotonic() + LOOK_EVERY

    # --- reading ---

    def open(self, interest: Interest) -> Contents:
        """Connects to a member that answers, and reads the records of interest and all notes."""
        return open_first(self._servers, lambda server: self._open_at(server, interest))

    def _open_at(self, server: Server, interest: Interest) -> Contents:
        gateway = self._new_gateway(server)
        try:
            gateway.log_in()
            self._member = gateway
            self._keyspace.interest = interest = None if self._namespace is None else interest
            reading = self._read(self._keyspace.prefixes(interest))
        except EngineError:
            gateway.close()
            raise
        found = reading.found
        revoked = tuple(one.signed for one in found.revoked)
        return Contents(reading.cluster, list(found.records.values()), found.notes, interest, revoked)

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads and watches the prefixes of these keys as well."""
        self._keyspace.interest = grown(self._keyspace.interest, keys)
        prefixes = [self._keyspace.prefix_of(key) for key in sorted(keys)]
        return list(self._read(prefixes).found.records.values())

    def _read(self, prefixes: list[str], gateway: EtcdGateway | None = None) -> EtcdListing:
        """Reads these prefixes, and watches them from the revision after that."""
        reading = read(gateway or self._gateway, self._keyspace, prefixes)
        self._watched.add_prefixes(prefixes, reading.revision + 1)
        return reading

    @property
    def _gateway(self) -> EtcdGateway:
        assert self._member is not None, "`open` comes first"
        return self._member

    def _new_gateway(self, server: Server, token: str | None = None) -> EtcdGateway:
        place = self._keyspace.root if self._keyspace.is_closed else self._keyspace.prefix
        return EtcdGateway(server, self._url, place, token)

    # --- watching ---

    def watch(self) -> Iterator[list[Change]]:
        """All changes of each range, from the revision after the one at which it was read."""
        server, token = self._gateway.server, self._gateway.token
        # For requests of this thread: the other gateway belongs to the thread that writes.
        gateway = self._new_gateway(server, token)
        connection: WatchConnection | None = None
        try:
            context = tls_context(self._url)
            connection = WatchConnection(server, context, token, members.TIMEOUT, LONGEST_ANSWER, self._opened)
            self._watched.begin(connection)
            for answer in connection.answers():
                yield self._changes(answer, gateway)
        finally:
            self._watched.end()
            if connection is not None:
                connection.close()
            gateway.close()

    def _opened(self, stream: EngineStream) -> None:
        self._watch_stream = stream
        if self._is_closed:
            stream.cut()

    def _changes(self, answer: Answer, gateway: EtcdGateway) -> list[Change]:
        """The changes that an answer of the watch tells of."""
        if not answer.is_over:
            return [change for event in answer.events if (change := self._change(event, gateway)) is not None]
        watched = self._watched.pop(answer.watch)
        if watched is None or not answer.compacted:
            # This range was read a moment ago, so the reason is the token of this connection: it is too old for a new range.
            raise EngineError(f"{gateway.name} ended the watch: {answer.reason or 'it said no more'}; it begins anew")
        _log.info("%s has compacted what changed under %.300r meanwhile; it is read anew", gateway.name, watched.keys.start)
        if not watched.prefix:
            self._watched.add(WatchedRange(watched.keys, answer.compacted))
            return [Vacant()]
        return self._read_anew(watched.prefix, gateway)

    def _read_anew(self, prefix: str, gateway: EtcdGateway) -> list[Change]:
        """Reads a range whose changes etcd has compacted away, and finds the instances that have left it meanwhile."""
        found = self._read([prefix], gateway).found
        gone: list[Change] = [
            change
            for instance, keys in list(self._keyspace.keys.items())
            if instance not in found.records
            for key in [key for key in list(keys) if key.startswith(prefix)]
            if (change := self._left(key, gateway)) is not None
        ]
        if self._keyspace.revoked.startswith(prefix):
            # A list that was deleted meanwhile is offered again; a list that is there is not written again.
            gone.append(FoundList(b""))
        return [*found.records.values(), *found.notes, *found.revoked, *gone]

    def _change(self, event: Event, gateway: EtcdGateway) -> Change | None:
        key = event.key.decode(errors="replace")
        if not self._keyspace.is_wanted(key):
            return None
        if not event.is_deletion:
            found = self._keyspace.decoded(key, event.value)
            if isinstance(found, Record):
                self._keyspace.came(found, key)
            return found
        if self._keyspace.is_revoked(key):
            return FoundList(b"")
        return Vacant() if self._keyspace.is_lock(key) else self._left(key, gateway)

    def _left(self, key: str, gateway: EtcdGateway) -> Gone | None:
        instance = self._keyspace.left(key, lambda keys: leases_of(gateway, keys), self._leases.leased.__contains__)
        return None if instance is None else Gone(instance)

    # --- writing ---

    def put_record(self, record: Record) -> None:
        """Puts the keys of a record under a lease of its ttl, and deletes those of sources that it no longer subscribes to."""
        keys = self._keyspace.keys_of(record)
        value = protocol.pack(record.to_dict())
        former = self._keyspace.keys.get(record.instance, set()) - set(keys)
        deletions = [delete(key) for key in sorted(former)]
        with self._gateway.refusals():
            self._leases.under(
                self._gateway, record.ttl, lambda lease: self._do([*(put(key, value, lease) for key in keys), *deletions])
            )
        self._keyspace.keys[record.instance] = set(keys)
        self._leases.leased[record.instance] = max(1, math.ceil(record.ttl))

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes the keys of a record."""
        self._leases.leased.pop(instance, None)
        with self._gateway.refusals():
            self._do([delete(key) for key in sorted(self._keyspace.keys.get(instance, ()))])

    def _do(self, operations: list[Body]) -> None:
        for transaction in transactions(operations):
            self._gateway.ask("/v3/kv/txn", transaction)

    def put_note(self, note: Note) -> None:
        """Puts a note, unless one of a higher rank is there."""
        self._replace(*self._keyspace.note_replacement(note, self._believes))

    def put_revoked(self, revoked: Revocations) -> None:
        """Puts a list of revoked certificates, unless a newer one is there."""
        self._replace(*self._keyspace.revoked_replacement(revoked))

    def _replace(self, key: str, new: bytes, stays: Callable[[bytes], bool]) -> None:
        """Puts a value, unless the present one `stays`. Tries again if another process wrote meanwhile."""
        revision = "0"
        with self._gateway.refusals():
            while True:
                answer = self._gateway.ask("/v3/kv/txn", put_if_unchanged(key, new, revision))
                if answer.get("succeeded"):
                    return
                held = held_in(answer)
                revision = "0" if held is None else held["mod_revision"]
                if held is not None and stays(decoded(held.get("value", ""))):
                    return

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Creates the key of a lock, unless another process holds it: then the key is watched."""
        key = self._keyspace.lock_key(lock.namespace, lock.name)
        with self._gateway.refusals():
            token, revision = self._leases.under(
                self._gateway, seconds, lambda lease: locks.take(self._gateway, key, lock.owner, lease)
            )
        if token is None:
            self._watched.add_lock(key, revision + 1)
            return None
        return Held(token, self._leases.trusted_until(seconds))

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes the key of a lock if it is ours."""
        with self._gateway.refusals():
            locks.release(self._gateway, self._keyspace.lock_key(lock.namespace, lock.name), lock.owner)

    # --- leases ---

    def keep(self) -> list[str]:
        """Renews all leases. If there is none, reads a key that is never there, to see that etcd has a quorum."""
        lost = self._leases.renew(self._gateway)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            lost += self._deleted()
        if not self._leases:
            self._gateway.ask("/v3/kv/range", {"key": encoded(self._keyspace.root.encode())})
        return lost

    def _deleted(self) -> list[str]:
        """Own instances with a key that another process deleted or overwrote. Keys that are watched need no check."""
        space = self._keyspace
        own = [(instance, key) for instance in self._leases.leased for key in space.keys[instance] if not space.is_wanted(key)]
        there = leases_of(self._gateway, [key for _, key in own])
        return sorted({instance for instance, key in own if there.get(key) != self._leases.id_for(instance)})

    def keep_every(self) -> float:
        """Seconds: a third of the shortest lease, at most KEEP_EVERY."""
        return min(KEEP_EVERY, self._leases.shortest() / 3)

    def close(self) -> None:
        """Ends the watch by shutting its socket down, whichever thread waits for it."""
        self._is_closed = True
        if self._watch_stream is not None:
            self._watch_stream.cut()
        if self._member is not None:
            self._member.close()
