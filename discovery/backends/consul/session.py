"""The session of a directory's client with one agent of Consul."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

from discovery import protocol
from discovery.backend import Believes, everything
from discovery.backends.consul.agent import ConsulAgent
from discovery.backends.consul.key_values import KeyValue
from discovery.backends.consul.queries import BlockingQueries, BlockingQuery
from discovery.backends.consul.ttl_session import TtlSession
from discovery.backends.found import Found
from discovery.backends.http_connection import HttpAnswer
from discovery.backends.keyspace import Keyspace
from discovery.backends.opening import Server, open_first, servers_in_turn
from discovery.backends.urls import EngineUrl
from discovery.client.engine_session import Change, Contents, Gone, Vacant
from discovery.client.locks import EngineLock, Held
from discovery.client.patience import Patience, goes_on
from discovery.exceptions import EngineError, EngineRefusal
from discovery.interest import Interest, grown
from discovery.model import Note, Record
from discovery.native import Log
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)

#: The longest time in seconds between two calls of `keep`.
KEEP_EVERY = 2.0
#: Seconds between two checks that the keys of this process are still there.
LOOK_EVERY = 10.0
#: Expired notes that a session deletes when it opens.
MAX_SWEPT = 100


class ConsulSession:
    """An `EngineSession` with one agent: the first one that answers. Each attempt begins with another agent.

    `own`: Consul's session, which later attempts take up. `patience`: with which this client waits in all its attempts.
    `is_closed`: whether the cluster has SECURITY.
    """

    def __init__(
        self,
        url: EngineUrl,
        namespace: str | None,
        own: TtlSession,
        patience: Patience,
        believes: Believes = everything,
        is_closed: bool = False,
    ) -> None:
        self._url = url
        self._patience = patience
        self._believes = believes
        self._namespace = namespace
        self._own = own
        self._attempt = own.take_up()
        parts = ["%2E" * len(part) if part in (".", "..") else quote(part, safe="") for part in url.prefix.split("/")]
        root = "".join(f"{part}/" for part in parts)
        self._space = Keyspace(url.name, root, namespace, has_dots=False, is_closed=is_closed)
        self._servers = servers_in_turn(url.servers)
        self._agent = self._new_agent(self._servers[0])
        self._queries = BlockingQueries()
        self._is_closed = False
        self._look_at = time.monotonic() + LOOK_EVERY

    def _new_agent(self, server: Server) -> ConsulAgent:
        return ConsulAgent(server, self._url, self._space.root, self._patience)

    # --- reading ---

    def open(self, interest: Interest) -> Contents:
        """Connects to an agent that answers, and reads the records of interest and all notes."""
        return open_first(self._servers, lambda server: self._open_at(server, interest))

    def _open_at(self, server: Server, interest: Interest) -> Contents:
        self._agent = self._new_agent(server)
        self._queries.clear()
        self._space.interest = interest = None if self._namespace is None else interest
        try:
            with self._agent.errors():
                cluster = self._cluster()
                found = self._read(self._space.prefixes(interest), is_packed=not self._space.is_closed)
                self._widen()
                for key in found.expired[:MAX_SWEPT]:
                    self._agent.delete(key)
        except EngineError:
            self._agent.close()
            raise
        revoked = tuple(one.signed for one in found.revoked)
        return Contents(cluster, list(found.records.values()), found.notes, interest, revoked, found.blocks())

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads and watches the prefixes of these keys as well."""
        self._space.interest = grown(self._space.interest, keys)
        with self._agent.errors():
            found = self._read([self._space.prefix_of(key) for key in sorted(keys)])
            self._widen()
        self._queries.wake()
        return list(found.records.values())

    def _cluster(self) -> str:
        key = f"{self._space.root}cluster"
        held = self._agent.get(key)
        if held is None:
            self._agent.put(key, os.urandom(8).hex().encode(), "cas=0")
            held = self._agent.get(key)
        return "" if held is None else held.value.decode(errors="replace")

    def _read(self, prefixes: list[str], is_packed: bool = False) -> Found[str]:
        """Reads these prefixes, and watches them from then on. `is_packed`: see `Found`."""
        found: Found[str] = Found(is_packed)
        for prefix in prefixes:
            listing = self._agent.listing(prefix)
            for item in listing.keys:
                if self._space.is_wanted(item.key):
                    found.sort(self._space, item.key, item.value, item.key, time.time())
            self._queries.add(prefix, listing.index, {item.key: item.index for item in listing.keys})
        return found

    def _widen(self) -> None:
        """Watches all records instead of each service if there are too many services."""
        if self._space.interest is not None:
            self._queries.widen((f"{self._space.prefix}records/", f"{self._space.prefix}subscribers/"))

    # --- watching ---

    def watch(self) -> Iterator[list[Change]]:
        """All changes after what was read. Each query has a connection; one poll waits for all of them."""
        asking = self._new_agent(self._agent.server)
        try:
            with self._agent.errors():
                while not self._is_closed:
                    for query in self._queries.wait(asking):
                        assert query.connection is not None
                        answer = query.connection.read(self._patience.seconds)
                        if answer is not None:
                            yield self._changes(query, answer, asking)
        finally:
            asking.close()
            self._queries.close()

    def _changes(self, query: BlockingQuery, answer: HttpAnswer, asking: ConsulAgent) -> list[Change]:
        """The difference between two answers to a query. `asking`: for what the watching thread itself must ask."""
        query.answered(time.monotonic())
        if answer.status not in (200, 404):
            raise EngineError(asking.sentence(answer))
        query.index = asking.index(answer, query.index)
        items = asking.keys(answer)
        if query.is_lock:
            return [] if any(item.session for item in items) else [Vacant()]
        now = {item.key: item.index for item in items}
        before = self._queries.saw(query, now)
        found = [self._decoded(item) for item in items if before.get(item.key) != item.index]
        changes: list[Change] = [one for one in found if one is not None]
        # Removed keys come last: a record that moves is listed under one of its two keys all the time.
        for key in before.keys() - now.keys():
            if self._space.is_revoked(key):
                changes.append(FoundList(b""))
                continue
            instance = self._left(key, asking) if self._space.is_wanted(key) else None
            if instance is not None:
                changes.append(Gone(instance))
        return changes

    def _decoded(self, item: KeyValue) -> Record | Note | FoundList | None:
        if not self._space.is_wanted(item.key):
            return None
        found = self._space.decoded(item.key, item.value)
        if isinstance(found, Record):
            self._space.came(found, item.key)
        return found

    def _left(self, key: str, asking: ConsulAgent) -> str | None:
        # At once: asked for one after the other, a record that moves meanwhile may be at none of its places.
        return self._space.left(key, asking.listed_at_once, self._own.own.__contains__)

    # --- writing ---

    def put_record(self, record: Record) -> None:
        """Puts the keys of a record into Consul's session, and deletes those of sources that it no longer subscribes to."""
        keys = self._space.keys_of(record)
        value = protocol.pack(record.to_dict())
        former = self._own.own.get(record.instance, set()) - set(keys)
        self._own.begin(self._agent)
        # Before they are written, so that `delete_record` deletes them even after an error in between.
        unsure = self._own.own[record.instance] = former | set(keys)
        try:
            for key in keys:
                self._own.acquire(self._agent, key, value)
            for key in sorted(former):
                self._agent.delete(key)
        finally:
            self._own.was_written(record.instance, set(keys), self._attempt)
        # Unless another attempt has written it meanwhile.
        if self._own.own.get(record.instance) is unsure:
            self._own.own[record.instance] = set(keys)

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes the keys of a record."""
        own = self._own.own.get(instance)
        for key in sorted({*(own or ()), *list(self._space.keys.get(instance, ()))}):
            self._agent.delete(key)
        # Only after the answers: if the connection is lost before, the next attempt must still know what to delete.
        if self._own.own.get(instance) is own:
            self._own.own.pop(instance, None)

    def put_note(self, note: Note) -> None:
        """Puts a note, unless one of a higher rank is there."""
        self._replace(*self._space.note_replacement(note, self._believes))

    def put_revoked(self, revoked: Revocations) -> None:
        """Puts a list of revoked certificates, unless a newer one is there."""
        self._replace(*self._space.revoked_replacement(revoked))

    def _replace(self, key: str, new: bytes, stays: Callable[[bytes], bool]) -> None:
        """Puts a value, unless the present one `stays`. Tries again if another process wrote meanwhile."""
        while True:
            held = self._agent.get(key)
            if held is not None and stays(held.value):
                return
            if self._agent.put(key, new, f"cas={0 if held is None else held.index}"):
                return

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Puts the key of a lock into Consul's session, unless another session holds it: then the key is watched."""
        key = self._space.lock_key(lock.namespace, lock.name)
        held = self._own.take_lock(self._agent, key, lock)
        if isinstance(held, Held):
            return held
        self._queries.add_lock(key, held)
        return None

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes the key of a lock if it is ours, and does not watch it any more."""
        key = self._space.lock_key(lock.namespace, lock.name)
        self._queries.remove(key)
        self._own.release_lock(self._agent, key, lock)

    # --- the lease ---

    def keep(self) -> list[str]:
        """Renews Consul's session. If there is none, asks for the leader instead, to see that Consul answers."""
        if self._own.id is None:
            if self._agent.request("GET", "/v1/status/leader").body.strip() in (b"", b'""'):
                raise self._agent.failed(f"{self._agent.name} knows no leader")
        elif not self._own.renew(self._agent):
            raise self._agent.failed(f"{self._agent.name} has ended the session of this process; a new one begins")
        late = {self._own.late.pop() for _ in range(len(self._own.late))}
        if time.monotonic() < self._look_at:
            return sorted(late)
        self._look_at = time.monotonic() + LOOK_EVERY
        # Watched keys, too: a query that is sent late does not see a key that came and went in between.
        own = {key: instance for instance, keys in self._own.own.items() for key in keys}
        there = self._agent.listed(list(own))
        return sorted(late | {instance for key, instance in own.items() if key not in there})

    def keep_every(self) -> float:
        """Seconds: a third of the session's TTL, at most KEEP_EVERY."""
        return KEEP_EVERY if self._own.id is None else min(KEEP_EVERY, self._own.seconds / 3)

    def goes_on(self, overdue: int) -> bool:
        """Whether the session goes on after `keep` was overdue."""
        does = goes_on(overdue, 0.0 if self._own.id is None else self._own.used(), len(self._servers))
        self._agent.has_failed = not does
        return does

    def close(self) -> None:
        """Ends the watch, and Consul's session too if it holds nothing. Otherwise the next attempt takes the session up."""
        was_closed, self._is_closed = self._is_closed, True
        self._queries.wake()
        if was_closed:
            return
        is_present = self._own.attempt == self._attempt
        if self._own.id is not None and self._own.is_empty and is_present and not self._agent.has_failed:
            try:
                self._own.end(self._agent)
            except (EngineError, EngineRefusal) as exc:
                _log.info("a session with %s ends by its TTL: %s", self._url.name, exc)
        self._agent.close()
