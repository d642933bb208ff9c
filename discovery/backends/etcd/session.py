"""The session of a directory's client with one member of etcd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from discovery import protocol
from discovery.backend import Believes, everything
from discovery.backends.etcd import locks
from discovery.backends.etcd.leases import EtcdLeases, OwnRecord, whole_seconds
from discovery.backends.etcd.member import LONGEST_ANSWER, EtcdMember
from discovery.backends.etcd.messages import Answer, Event
from discovery.backends.etcd.ranges import TXN
from discovery.backends.etcd.reading import EtcdListing, check, listed, read
from discovery.backends.etcd.watch import WatchConnection
from discovery.backends.etcd.watched import WatchedRange, WatchedRanges
from discovery.backends.etcd.writes import decode_write, delete, put, put_if_unchanged, transactions
from discovery.backends.keyspace import Keyspace
from discovery.backends.opening import Server, open_first, servers_in_turn
from discovery.backends.stream import EngineStream
from discovery.backends.tls import tls_context
from discovery.backends.urls import EngineUrl
from discovery.client.engine_session import Change, Contents, Gone, Vacant
from discovery.client.locks import EngineLock, Held
from discovery.client.patience import Patience, goes_on
from discovery.exceptions import EngineError, EngineOverdueError
from discovery.interest import Interest, grown
from discovery.model import Note, Record
from discovery.native import Log
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)

#: The longest time in seconds between two calls of `keep`.
KEEP_EVERY = 2.0
#: Times that a watch is begun before the session ends, if etcd is too busy to answer.
BEGINNINGS = 3
#: Seconds between two checks that those keys of this process that it does not watch are still there.
LOOK_EVERY = 10.0


class EtcdSession:
    """An `EngineSession` with one member: the first one that answers. Each attempt begins with another member.

    `leases`: those of this process, taken over from the attempt before. `patience`: with which this client waits in all its
    attempts. `is_closed`: whether the cluster has SECURITY.
    """

    def __init__(
        self,
        url: EngineUrl,
        namespace: str | None,
        leases: EtcdLeases,
        patience: Patience,
        believes: Believes = everything,
        is_closed: bool = False,
    ) -> None:
        self._url = url
        self._patience = patience
        self._believes = believes
        root = "/" + "".join(f"{quote(part, safe='')}/" for part in url.prefix.split("/"))
        self._keyspace = Keyspace(url.name, root, namespace, is_closed=is_closed)
        self._namespace = namespace
        self._servers = servers_in_turn(url.servers)
        self._open_member: EtcdMember | None = None
        #: Instances whose records an earlier session has written, and etcd still has.
        self._resumed: set[str] = set()
        #: Those of them that were announced again without a write, until `keep` has looked at all their keys.
        self._unchecked: set[str] = set()
        self._watched = WatchedRanges()
        self._watch_stream: EngineStream | None = None
        self._is_closed = False
        #: Instances whose lease is lost, until `keep` returns them.
        self._lost: set[str] = set()
        self._leases = leases
        self._look_at = time.monotonic() + LOOK_EVERY

    # --- reading ---

    def open(self, interest: Interest) -> Contents:
        """Connects to a member that answers, and reads the records of interest and all notes."""
        return open_first(self._servers, lambda server: self._open_at(server, interest))

    def _open_at(self, server: Server, interest: Interest) -> Contents:
        member = self._new_member(server)
        try:
            member.log_in()
            self._open_member = member
            if self._leases:
                # First, since they may be about to run out.
                with member.errors():
                    self._resumed = self._leases.resume(member)
            self._keyspace.interest = interest = None if self._namespace is None else interest
            reading = self._read(self._keyspace.prefixes(interest), is_packed=not self._keyspace.is_closed)
        except EngineError:
            member.close()
            raise
        found = reading.found
        revoked = tuple(one.signed for one in found.revoked)
        return Contents(reading.cluster, list(found.records.values()), found.notes, interest, revoked, found.blocks())

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads and watches the prefixes of these keys as well."""
        self._keyspace.interest = grown(self._keyspace.interest, keys)
        prefixes = [self._keyspace.prefix_of(key) for key in sorted(keys)]
        return list(self._read(prefixes).found.records.values())

    def _read(self, prefixes: list[str], member: EtcdMember | None = None, is_packed: bool = False) -> EtcdListing:
        """Reads these prefixes, and watches them from the revision after that."""
        reading = read(member or self._member, self._keyspace, prefixes, is_packed)
        self._watched.add_prefixes(prefixes, reading.revision + 1)
        return reading

    @property
    def _member(self) -> EtcdMember:
        assert self._open_member is not None, "`open` comes first"
        return self._open_member

    def _new_member(self, server: Server, token: str | None = None) -> EtcdMember:
        place = self._keyspace.root if self._keyspace.is_closed else self._keyspace.prefix
        return EtcdMember(server, self._url, place, self._patience, token)

    # --- watching ---

    def watch(self) -> Iterator[list[Change]]:
        """All changes of each range, from the revision after the one at which it was read.

        If etcd is too busy to begin the watch in time, it is asked again, and what was read is kept.
        """
        server, token = self._member.server, self._member.token
        # For requests of this thread: the other connection belongs to the thread that writes.
        member = self._new_member(server, token)
        try:
            for number in range(1, BEGINNINGS + 1):
                has_begun = False
                try:
                    for answer in self._answers(server, token):
                        has_begun = True
                        yield self._changes(answer, member)
                except EngineOverdueError:
                    self._patience.was_overdue()
                    if has_begun or number == BEGINNINGS or self._is_closed:
                        raise
                else:
                    return
        finally:
            member.close()

    def _answers(self, server: Server, token: str | None) -> Iterator[Answer]:
        context = tls_context(self._url)
        connection = WatchConnection(server, context, token, self._patience.seconds, LONGEST_ANSWER, self._opened)
        try:
            self._watched.begin(connection)
            yield from connection.answers()
        finally:
            self._watched.end()
            connection.close()

    def _opened(self, stream: EngineStream) -> None:
        self._watch_stream = stream
        if self._is_closed:
            stream.cut()

    def _changes(self, answer: Answer, member: EtcdMember) -> list[Change]:
        """The changes that an answer of the watch tells of."""
        if not answer.is_over:
            return [change for event in answer.events if (change := self._change(event, member)) is not None]
        watched = self._watched.pop(answer.watch)
        if watched is None or not answer.compacted:
            # This range was read a moment ago, so the reason is the token of this connection: it is too old for a new range.
            raise EngineError(f"{member.name} ended the watch: {answer.reason or 'it said no more'}; it begins anew")
        _log.info("%s has compacted what changed under %.300r meanwhile; it is read anew", member.name, watched.keys.start)
        if not watched.prefix:
            self._watched.add(WatchedRange(watched.keys, answer.compacted))
            return [Vacant()]
        return self._read_anew(watched.prefix, member)

    def _read_anew(self, prefix: str, member: EtcdMember) -> list[Change]:
        """Reads a range whose changes etcd has compacted away, and finds the instances that have left it meanwhile."""
        found = self._read([prefix], member).found
        gone: list[Change] = [
            change
            for instance, keys in list(self._keyspace.keys.items())
            if instance not in found.records
            for key in [key for key in list(keys) if key.startswith(prefix)]
            if (change := self._left(key, member)) is not None
        ]
        if self._keyspace.revoked.startswith(prefix):
            # A list that was deleted meanwhile is offered again; a list that is there is not written again.
            gone.append(FoundList(b""))
        return [*found.records.values(), *found.notes, *found.revoked, *gone]

    def _change(self, event: Event, member: EtcdMember) -> Change | None:
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
        return Vacant() if self._keyspace.is_lock(key) else self._left(key, member)

    def _left(self, key: str, member: EtcdMember) -> Gone | None:
        instance = self._keyspace.left(key, lambda keys: listed(member, keys), self._leases.own.__contains__)
        return None if instance is None else Gone(instance)

    # --- writing ---

    def put_record(self, record: Record) -> None:
        """Puts the keys of a record under a lease of its ttl, and deletes those of sources that it no longer subscribes to.

        Does nothing if an earlier session has written exactly this, and etcd still had it when this session began.
        The next `keep` looks whether another process has deleted it since.
        """
        instance, leases = record.instance, self._leases
        keys = self._keyspace.keys_of(record)
        written = OwnRecord(whole_seconds(record.ttl), frozenset(keys), protocol.pack(record.to_dict()))
        former = leases.own.get(instance)
        if instance in self._resumed:
            self._resumed.discard(instance)
            if former == written:
                self._keyspace.keys[instance] = set(keys)
                self._unchecked.add(instance)
                return
        places = self._keyspace.keys.get(instance, set()) | (former.keys if former is not None else set())
        deletions = [delete(key.encode()) for key in sorted(places - set(keys))]
        # Before they are written, so that `delete_record` deletes them even after an error in between.
        unsure = leases.own[instance] = OwnRecord(written.seconds, frozenset(places | set(keys)), None)
        value = written.value or b""
        try:
            with self._member.refusals():
                leases.under(
                    self._member, record.ttl, lambda lease: self._do([*(put(key, value, lease) for key in keys), *deletions])
                )
        finally:
            leases.was_written(instance, written.keys)
        self._keyspace.keys[instance] = set(keys)
        # Unless a session that was given up has written it meanwhile.
        if leases.own[instance] is unsure:
            leases.own[instance] = written

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes the keys of a record."""
        own = self._leases.own.get(instance)
        keys = set(self._keyspace.keys.get(instance, ())) | (own.keys if own is not None else set())
        with self._member.refusals():
            self._do([delete(key.encode()) for key in sorted(keys)])
        # Only after the answers: if the connection is lost before, the next attempt must still know what to delete.
        if self._leases.own.get(instance) is own:
            self._leases.own.pop(instance, None)

    def _do(self, operations: list[bytes]) -> None:
        for transaction in transactions(operations):
            self._member.ask(TXN, transaction)

    def put_note(self, note: Note) -> None:
        """Puts a note, unless one of a higher rank is there."""
        self._replace(*self._keyspace.note_replacement(note, self._believes))

    def put_revoked(self, revoked: Revocations) -> None:
        """Puts a list of revoked certificates, unless a newer one is there."""
        self._replace(*self._keyspace.revoked_replacement(revoked))

    def _replace(self, key: str, new: bytes, stays: Callable[[bytes], bool]) -> None:
        """Puts a value, unless the present one `stays`. Tries again if another process wrote meanwhile."""
        revision = 0
        with self._member.refusals():
            while True:
                answer = decode_write(self._member.ask(TXN, put_if_unchanged(key, new, revision)))
                if answer.has_succeeded:
                    return
                revision = 0 if answer.held is None else answer.held.revision
                if answer.held is not None and stays(answer.held.value):
                    return

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Creates the key of a lock, unless another process holds it: then the key is watched."""
        key = self._keyspace.lock_key(lock.namespace, lock.name)
        with self._member.refusals():
            token, revision = self._leases.under(
                self._member, seconds, lambda lease: locks.take(self._member, key, lock.owner, lease)
            )
        if token is None:
            self._watched.add_lock(key, revision + 1)
            return None
        return Held(token, self._leases.trusted_until(seconds))

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes the key of a lock if it is ours."""
        with self._member.refusals():
            locks.release(self._member, self._keyspace.lock_key(lock.namespace, lock.name), lock.owner)

    # --- leases ---

    def keep(self) -> list[str]:
        """Renews all leases. If there is none, reads a key that is never there, to see that etcd has a quorum."""
        with self._member.errors():
            self._lost.update(self._leases.renew(self._member))
        if not self._leases:
            check(self._member, self._keyspace)
        if self._unchecked or time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            self._lost.update(self._deleted())
        lost, self._lost = sorted(self._lost), set()
        return lost

    def _deleted(self) -> set[str]:
        """Own instances with a key that another process deleted or overwrote.

        Keys that are watched need no check, but for records that were not written by this session: a key that was deleted before
        this process announced its record here was not yet known as its own.
        """
        own = [
            (instance, key)
            for instance, record in self._leases.own.items()
            for key in record.keys
            if instance in self._unchecked or not self._keyspace.is_wanted(key)
        ]
        with self._member.errors():
            missing = self._leases.missing(self._member, own)
        self._unchecked.clear()
        return missing

    def keep_every(self) -> float:
        """Seconds: a third of the shortest lease, at most KEEP_EVERY."""
        return min(KEEP_EVERY, self._leases.shortest() / 3)

    def goes_on(self, overdue: int) -> bool:
        """Whether the session goes on after `keep` was overdue."""
        return goes_on(overdue, self._leases.used(), len(self._servers))

    def close(self) -> None:
        """Ends the watch by shutting its socket down, whichever thread waits for it."""
        self._is_closed = True
        if self._watch_stream is not None:
            self._watch_stream.cut()
        if self._open_member is not None:
            self._open_member.close()
