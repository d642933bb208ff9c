"""`consul://[TOKEN@]HOST:PORT[,HOST:PORT...]/PREFIX`: a directory kept by Consul, in its store of keys and values.

Records are keys that a session of this process holds (`acquire`), notes are keys that nobody holds, below PREFIX/; `keyspace`
says where each stands. The session has a TTL and the behavior `delete`: with it, all its keys go. PREFIX/cluster has a random
number, which tells a Consul that lost everything from the one before.

It speaks HTTP with any agent, through h11. Sources of the rules: "HTTP API: KV Store, Sessions, Blocking Queries, Status,
Consistency Modes" and "Sessions and distributed locks" at developer.hashicorp.com/consul.

Rule 1: each service and each source of the interest has a blocking query of its own. An answer has all records under the
prefix, so what changed is the difference to the answer before. After an index that goes back the next question is one with index
0, whose answer comes at once and has everything again.
Rule 2: a query takes a connection for itself, and agents allow 200 to one address. A client of many services asks for all.
Rule 3: a lost connection is not a lost session. The next attempt renews the session, whichever agent it reaches; when Consul does
not know it any more a new one begins, and all records are made anew.
Rule 4: a lock is a key that the session holds. Its fencing token is the index of the change by which it was acquired.
"""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import os
import random
import select
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from discovery import protocol
from discovery.backend import Believes, Capabilities, Kind, Options, everything
from discovery.backends.http_connection import HttpAnswer, HttpConnection
from discovery.backends.keyspace import Keyspace
from discovery.backends.stream import name_of
from discovery.backends.tls import OPTIONS, tls_context
from discovery.backends.urls import EngineUrl, parse_engine_url
from discovery.client.engine_seed import EngineSeed
from discovery.client.engine_session import Change, Contents, Gone, Vacant
from discovery.client.locks import TRUSTED, EngineLock, Held, lock_time
from discovery.exceptions import DirectoryConfigurationError, EngineError, EngineRefusal
from discovery.interest import Interest, grown
from discovery.model import Note, Record, shown_url
from discovery.native import Log, Wakeup, native_lock, original
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)
_poll: Callable[[], select.poll] = original("select", "poll")
_sleep = original("time", "sleep")

EXTRA = "zmqservices[consul]"
DEFAULT_PORT = 8500
#: Seconds for one answer. An agent without a leader answers with an error.
TIMEOUT = 5.0
#: Seconds after which a blocking query is answered though nothing has changed. Consul adds a sixteenth of it, at random.
WAIT = 60.0
#: Seconds between two questions about the same prefix, at least.
SHORTEST_PAUSE = 0.01
#: Seconds between two signs of life, at most.
KEEP_EVERY = 2.0
#: Seconds between two looks whether the keys of this process that it does not watch are still there.
LOOK_EVERY = 10.0
#: The shortest TTL of a session, unless the servers' `session_ttl_min` says otherwise.
SHORTEST_SESSION = 10.0
#: Seconds for which nobody gets a key whose session has ended. We have fencing tokens instead; more than 0 is asked for.
LOCK_DELAY = "1ms"
#: Attempts to get a key that is in somebody else's hands, and the pause between them.
ATTEMPTS, PAUSE = 20, 0.05
#: Blocking queries of one client. One of more services and sources has two, for all records.
MAX_QUERIES = 24
#: Expired notes that a session deletes when it opens.
MAX_SWEPT = 100
#: Bytes of an answer that are taken, as of a snapshot of a registry: it may have all records.
LONGEST_ANSWER = protocol.MAX_HELD
_MEND = "consul://[TOKEN@]HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_consul(url: str, options: Options) -> Kind:
    """The factory of `consul:`. Raises DirectoryConfigurationError where h11 is missing, or a file that the URL names."""
    try:
        importlib.import_module("h11")
    except ImportError as exc:
        raise DirectoryConfigurationError(
            f"the directory URL is {shown_url(url)!r}, and h11, by which Consul is reached, is not installed; "
            f"`pip install {EXTRA}` brings it"
        ) from exc
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, OPTIONS, has_users=False)
    # Not in vain: a file that is missing is told at once.
    tls_context(parsed)
    resumed: dict[str | None, _Resumable] = {}

    def session(namespace: str | None) -> ConsulSession:
        resumable = resumed.setdefault(namespace, _Resumable())
        return ConsulSession(parsed, options.ttl, namespace, resumable, options.believes, options.keys is not None)

    seed = EngineSeed(parsed.name, session, options.ttl, options.keys)
    return Kind(parsed.name, (seed,), Capabilities(locks=True, servers=parsed.servers), options.ttl / 3, locks=seed.locks)


class _Resumable:
    """The session with Consul, which outlives connections: its id, its TTL, and what it holds."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.seconds = 0.0
        #: When the last sign of life was sent that was answered, by `lock_time`.
        self.renewed = 0.0
        #: The keys of each record of this process.
        self.own: dict[str, set[str]] = {}
        #: The fencing tokens of the locks that it holds, by owner.
        self.tokens: dict[str, int] = {}

    def forget(self) -> None:
        """Consul has ended the session."""
        self.id = None
        self.own.clear()
        self.tokens.clear()


class _Query:
    """A blocking query for one prefix, or for the one key of a lock."""

    def __init__(self, place: str, index: int, seen: dict[str, int], is_lock: bool = False) -> None:
        self.place = place
        self.index = index
        self.seen = seen
        self.is_lock = is_lock
        self.connection: HttpConnection | None = None
        #: When it was asked; None while it is not.
        self.asked_at: float | None = None
        self.next_at = 0.0


@dataclass
class _Found:
    """What was read at once: records by instance, notes, lists of revoked certificates, and the keys of notes past their time."""

    records: dict[str, Record] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    revoked: list[bytes] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)


_sessions = itertools.count(random.randrange(1000))


class ConsulSession:
    """An `EngineSession` with one agent: the first that answers, another one at each attempt."""

    def __init__(
        self,
        url: EngineUrl,
        seconds: float,
        namespace: str | None,
        resumable: _Resumable,
        believes: Believes = everything,
        is_closed: bool = False,
    ) -> None:
        self._url = url
        self._believes = believes
        self._seconds = seconds
        self._namespace = namespace
        self._session = resumable
        parts = ["%2E" * len(part) if part in (".", "..") else quote(part, safe="") for part in url.prefix.split("/")]
        root = "".join(f"{part}/" for part in parts)
        self._space = Keyspace(url.name, root, namespace, has_dots=False, is_closed=is_closed)
        first = next(_sessions) % len(url.servers)
        self._servers = url.servers[first:] + url.servers[:first]
        self._server = self._servers[0]
        self._api: HttpConnection | None = None
        self._guard = native_lock()
        self._queries: list[_Query] = []
        #: Those that are asked no more; the thread of the watch closes their connections.
        self._retired: list[_Query] = []
        self._wakeup = Wakeup()
        self._is_closed = False
        self._has_failed = False
        self._look_at = time.monotonic() + LOOK_EVERY

    # --- EngineSession ---

    def open(self, interest: Interest) -> Contents:
        """Finds an agent that answers, and reads what is of interest, and all notes."""
        errors: list[str] = []
        for server in self._servers:
            self._server = server
            self._api = self._connection()
            try:
                return self._open(interest)
            except EngineError as exc:
                self._api.close()
                errors.append(str(exc))
        raise self._failed("; ".join(dict.fromkeys(errors)))

    def _open(self, interest: Interest) -> Contents:
        self._queries = []
        self._space.interest = interest = None if self._namespace is None else interest
        try:
            cluster = self._cluster()
            found = self._read(self._space.prefixes(interest))
            self._widen()
            for key in found.expired[:MAX_SWEPT]:
                self._delete(key)
        except EngineRefusal as exc:
            raise EngineError(str(exc)) from exc
        return Contents(cluster, list(found.records.values()), found.notes, interest, tuple(found.revoked))

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads the prefixes of these keys, and has them watched."""
        self._space.interest = grown(self._space.interest, keys)
        try:
            found = self._read([self._space.prefix_of(key) for key in sorted(keys)])
            self._widen()
        except EngineRefusal as exc:
            raise self._failed(str(exc)) from exc
        self._wakeup.wake()
        return list(found.records.values())

    def watch(self) -> Iterator[list[Change]]:
        """All changes after what was read. Every query has a connection; they are waited for together."""
        asking = self._connection()  # What this thread itself has to ask.
        try:
            while not self._is_closed:
                self._close_retired()
                with self._guard:
                    queries = list(self._queries)
                self._ask(queries, time.monotonic())
                for query in self._wait(queries):
                    assert query.connection is not None
                    answer = query.connection.read(TIMEOUT)
                    if answer is not None:
                        yield self._changes(query, answer, asking)
        except (EngineError, EngineRefusal) as exc:
            raise self._failed(str(exc)) from exc
        finally:
            asking.close()
            with self._guard:
                self._retired += self._queries
                self._queries = []
            self._close_retired()
            self._wakeup.close()

    def _close_retired(self) -> None:
        with self._guard:
            retired, self._retired = self._retired, []
        for query in retired:
            if query.connection is not None:
                query.connection.close()

    def put_record(self, record: Record) -> None:
        """Puts its keys into the session, and deletes those of sources that it subscribes to no more."""
        keys = self._space.keys_of(record)
        value = protocol.pack(record.to_dict())
        former = self._session.own.get(record.instance, set()) - set(keys)
        session = self._begin()
        # Noted first: what is made is deleted by `delete_record`, whatever happens on the way.
        self._session.own[record.instance] = former | set(keys)
        for key in keys:
            self._acquire(key, value, session)
        for key in sorted(former):
            self._delete(key)
        self._session.own[record.instance] = set(keys)

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes its keys."""
        for key in sorted({*self._session.own.get(instance, ()), *list(self._space.keys.get(instance, ()))}):
            self._delete(key)
        # Only now: where the connection is lost before the answer, the next attempt must know what to delete.
        self._session.own.pop(instance, None)

    def put_note(self, note: Note) -> None:
        """Puts it unless one of higher rank is there; tries again when somebody else wrote meanwhile."""
        self._replace(
            self._space.note_key(note),
            protocol.pack(note.to_list()),
            lambda held: self._space.outranks(held, note, self._believes),
        )

    def put_revoked(self, revoked: Revocations) -> None:
        """Puts it unless a newer one is there."""
        self._replace(self._space.revoked_key(revoked.authority), revoked.signed, revoked.gives_way_to)

    def _replace(self, key: str, new: bytes, stays: Callable[[bytes], bool]) -> None:
        """Puts a value, unless there is one that `stays`; tries again when somebody else wrote meanwhile."""
        while True:
            held = self._get(key)
            if held is not None and stays(_value(held)):
                return
            index = 0 if held is None else _modified(held)
            if self._put(key, new, f"cas={index}"):
                return

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Puts its key into the session unless another session holds it."""
        key, owner = self._space.lock_key(lock.namespace, lock.name), lock.owner.encode()
        session = self._begin()
        held = self._get(key)
        if held is None or not held.get("Session"):
            self._put(key, owner, f"acquire={session}")
            held = self._get(key)
        if held is None or held.get("Session") != session or _value(held) != owner:
            self._session.tokens.pop(lock.owner, None)
            self._watch_lock(key, 0 if held is None else _modified(held))
            return None
        token = self._session.tokens.setdefault(lock.owner, _modified(held))
        return Held(token, self._session.renewed + self._session.seconds * TRUSTED)

    def _watch_lock(self, key: str, index: int) -> None:
        with self._guard:
            if all(query.place != key for query in self._queries):
                self._queries.append(_Query(key, index, {}, is_lock=True))
        self._wakeup.wake()

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes its key if it is ours."""
        self._session.tokens.pop(lock.owner, None)
        key = self._space.lock_key(lock.namespace, lock.name)
        with self._guard:
            self._retired += [query for query in self._queries if query.place == key]
            self._queries = [query for query in self._queries if query.place != key]
        self._wakeup.wake()
        held = self._get(key)
        if held is not None and _value(held) == lock.owner.encode():
            self._call("DELETE", key, f"cas={_modified(held)}")

    def keep(self) -> list[str]:
        """Renews the session, or asks for the leader: the answer shows that Consul is alive."""
        if self._session.id is None:
            if self._request("GET", "/v1/status/leader").body.strip() in (b"", b'""'):
                raise self._failed(f"{name_of(self._server)} knows no leader")
        elif not self._renew():
            raise self._failed(f"{name_of(self._server)} has ended the session of this process; a new one begins")
        if time.monotonic() < self._look_at:
            return []
        self._look_at = time.monotonic() + LOOK_EVERY
        # Those that are watched, too: a query that is asked late misses what came and went in between.
        own = {key: instance for instance, keys in self._session.own.items() for key in keys}
        there = self._listed(list(own))
        return sorted({instance for key, instance in own.items() if key not in there})

    def keep_every(self) -> float:
        """A third of the session's TTL."""
        return KEEP_EVERY if self._session.id is None else min(KEEP_EVERY, self._session.seconds / 3)

    def close(self) -> None:
        """Ends the watch. A session that holds nothing any more is ended, too; the next attempt takes up any other one."""
        was_closed, self._is_closed = self._is_closed, True
        self._wakeup.wake()
        if was_closed:
            return
        if self._session.id is not None and not (self._has_failed or self._session.own or self._session.tokens):
            session, self._session.id = self._session.id, None
            try:
                self._request("PUT", f"/v1/session/destroy/{session}")
            except (EngineError, EngineRefusal) as exc:
                _log.info("a session with %s ends by its TTL: %s", self._url.name, exc)
        if self._api is not None:
            self._api.close()

    # --- the session with Consul ---

    def _begin(self) -> str:
        """The id of the session, which is begun where there is none."""
        if self._session.id is not None:
            return self._session.id
        for seconds in (max(1.0, self._seconds), max(SHORTEST_SESSION, self._seconds)):
            body: dict[str, Any] = {"Name": "zmqservices", "TTL": f"{seconds:g}s", "Behavior": "delete", "LockDelay": LOCK_DELAY}
            # The TTL alone: an agent that others take for dead may well be heard by this process.
            body["NodeChecks"] = []
            asked = lock_time()
            answer = self._request("PUT", "/v1/session/create", json.dumps(body).encode(), (400, 500))
            if answer.status == 200:
                self._session.id = str(self._document(answer, dict)["ID"])
                self._session.seconds, self._session.renewed = seconds, asked
                return self._session.id
            if b"must be between" not in answer.body:
                break
        raise self._failed(self._sentence(answer))

    def _renew(self) -> bool:
        """Renews the session; False when Consul does not know it any more."""
        asked = lock_time()
        if self._request("PUT", f"/v1/session/renew/{self._session.id}", b"", (404,)).status == 404:
            self._session.forget()
            return False
        self._session.renewed = asked
        return True

    def _acquire(self, key: str, value: bytes, session: str) -> None:
        """Puts a key into the session. One that a former session of this process holds is made anew."""
        for _ in range(ATTEMPTS):
            if self._put(key, value, f"acquire={session}"):
                return
            held = self._get(key)
            if held is not None and held.get("Session") not in (None, "", session):
                self._delete(key)
            else:
                _sleep(PAUSE)  # The session that held it has just ended; for a moment nobody gets it.
        raise EngineRefusal(f"{key!r} at {name_of(self._server)} is held by another session all the time")

    # --- reading ---

    def _cluster(self) -> str:
        key = f"{self._space.root}cluster"
        held = self._get(key)
        if held is None:
            self._put(key, os.urandom(8).hex().encode(), "cas=0")
            held = self._get(key)
        return "" if held is None else _value(held).decode(errors="replace")

    def _read(self, prefixes: list[str]) -> _Found:
        """Reads these prefixes and has them watched."""
        sorted_out = _Found()
        for prefix in prefixes:
            answer = self._call("GET", prefix, "recurse", (404,))
            items = self._items(answer)
            for item in items:
                found = self._taken(item)
                if isinstance(found, Record):
                    sorted_out.records[found.instance] = found
                elif isinstance(found, FoundList):
                    sorted_out.revoked.append(found.signed)
                elif isinstance(found, Note):
                    if found.age(time.time()) > found.ttl:
                        sorted_out.expired.append(item["Key"])
                    else:
                        sorted_out.notes.append(found)
            with self._guard:
                self._queries.append(_Query(prefix, self._index(answer, 0), {item["Key"]: _modified(item) for item in items}))
        return sorted_out

    def _widen(self) -> None:
        """Has all records watched, and not each service by itself, when there are too many services for that."""
        if self._space.interest is None:
            return
        prefixes = tuple(f"{self._space.prefix}{kind}/" for kind in ("records", "subscribers"))
        with self._guard:
            wide = [query for query in self._queries if query.place in prefixes]
            narrow = [query for query in self._queries if query.place.startswith(prefixes) and query not in wide]
            if not wide and len(narrow) <= MAX_QUERIES:
                return
            # From index 0 on: whatever changed since the narrow prefixes were read is found, by the difference to that.
            for query in wide or [_Query(prefix, 0, {}) for prefix in prefixes]:
                for one in narrow:
                    query.seen.update({key: one.seen[key] for key in one.seen if key.startswith(query.place)})
                if query not in wide:
                    self._queries.append(query)
            self._queries = [query for query in self._queries if query not in narrow]
            self._retired += narrow

    def _taken(self, item: dict[str, Any]) -> Record | Note | FoundList | None:
        """What a key of interest holds."""
        key = item["Key"]
        if not self._space.is_wanted(key):
            return None
        found = self._space.decoded(key, _value(item))
        if isinstance(found, Record):
            self._space.came(found, key)
        return found

    def _ask(self, queries: list[_Query], now: float) -> None:
        for query in queries:
            if query.asked_at is None and query.next_at <= now:
                if query.connection is None:
                    query.connection = self._connection()
                what = "" if query.is_lock else "recurse&"
                query.connection.ask("GET", _path(query.place, f"{what}index={query.index}&wait={WAIT:g}s"))
                query.asked_at = now

    def _wait(self, queries: list[_Query]) -> list[_Query]:
        """Those of which something has come."""
        now = time.monotonic()
        asked = {query.connection.fileno(): query for query in queries if query.asked_at is not None and query.connection}
        poll = _poll()
        poll.register(self._wakeup.fd, select.POLLIN)
        for fd in asked:
            poll.register(fd, select.POLLIN)
        late = WAIT * 17 / 16 + TIMEOUT
        deadlines = [now + late if query.asked_at is None else query.asked_at + late for query in queries]
        pauses = [query.next_at for query in queries if query.asked_at is None]
        until = min([*deadlines, *pauses, now + WAIT])
        ready = {fd for fd, _ in poll.poll(max(0, int((until - now) * 1000) + 1))}
        if self._wakeup.fd in ready:
            self._wakeup.clear()
        if any(query.asked_at is not None and query.asked_at + late < time.monotonic() for query in queries):
            raise EngineError(f"{name_of(self._server)} did not answer a blocking query within {late:g} s")
        with self._guard:
            # One that was taken out meanwhile was cut.
            return [query for fd, query in asked.items() if fd in ready and query in self._queries]

    def _changes(self, query: _Query, answer: HttpAnswer, asking: HttpConnection) -> list[Change]:
        """The difference between two answers to a query."""
        query.asked_at, query.next_at = None, time.monotonic() + SHORTEST_PAUSE
        if answer.status not in (200, 404):
            raise EngineError(self._sentence(answer))
        query.index = self._index(answer, query.index)
        items = self._items(answer)
        if query.is_lock:
            return [] if any(item.get("Session") for item in items) else [Vacant()]
        with self._guard:
            before, query.seen = query.seen, {item["Key"]: _modified(item) for item in items}
        changes: list[Change] = []
        for item in items:
            if before.get(item["Key"]) != _modified(item) and (found := self._taken(item)) is not None:
                changes.append(found)
        # After those that came: of two places of a record one is there all the time.
        for key in before.keys() - query.seen.keys():
            if self._space.is_revoked(key):
                changes.append(FoundList(b""))
                continue
            instance = self._left(key, asking) if self._space.is_wanted(key) else None
            if instance is not None:
                changes.append(Gone(instance))
        return changes

    def _left(self, key: str, asking: HttpConnection) -> str | None:
        return self._space.left(key, lambda keys: self._listed(keys, asking), self._session.own.__contains__)

    def _listed(self, keys: Iterable[str], connection: HttpConnection | None = None) -> list[str]:
        """Those of these keys that are there."""
        return [key for key in keys if self._call("GET", key, "", (404,), connection).status == 200]

    def _index(self, answer: HttpAnswer, former: int) -> int:
        """The index to wait beyond. One that goes back is 0, as after a snapshot was restored; none is lower than 1 otherwise."""
        text = answer.headers.get("x-consul-index", "")
        if not (text.isascii() and text.isdigit()):
            raise EngineError(self._strange(answer))
        index = max(1, int(text))
        return 0 if index < former else index

    # --- what is asked of Consul ---

    def _connection(self) -> HttpConnection:
        headers = {"x-consul-token": self._url.password} if self._url.password else {}
        return HttpConnection(self._server, tls_context(self._url), TIMEOUT, LONGEST_ANSWER, headers)

    def _get(self, key: str) -> dict[str, Any] | None:
        """What is known of one key; None where it is not there."""
        items = self._items(self._call("GET", key, "", (404,)))
        return items[0] if items else None

    def _put(self, key: str, value: bytes, how: str) -> bool:
        """Whether Consul put it, as `how` asks for."""
        answer = self._call("PUT", key, how, (500,), body=value)
        if answer.status == 500:
            if b"invalid session" in answer.body.lower():
                self._session.forget()
                raise self._failed(f"{name_of(self._server)} has ended the session of this process; a new one begins")
            raise self._failed(self._sentence(answer))
        return answer.body.strip() == b"true"

    def _delete(self, key: str) -> None:
        self._call("DELETE", key, "")

    def _call(
        self,
        method: str,
        key: str,
        query: str,
        known: tuple[int, ...] = (),
        connection: HttpConnection | None = None,
        body: bytes = b"",
    ) -> HttpAnswer:
        return self._request(method, _path(key, query), body, known, connection)

    def _request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        known: tuple[int, ...] = (),
        connection: HttpConnection | None = None,
    ) -> HttpAnswer:
        """An answer with status 200, or one of `known`. EngineRefusal for what Consul forbids, EngineError for all else."""
        connection = connection or self._api
        assert connection is not None
        try:
            answer = connection.call(method, target, body)
        except EngineError as exc:
            raise self._failed(str(exc)) from exc
        if answer.status == 403:
            raise EngineRefusal(self._sentence(answer))
        if answer.status != 200 and answer.status not in known:
            raise self._failed(self._sentence(answer))
        return answer

    def _failed(self, text: str) -> EngineError:
        self._has_failed = True
        return EngineError(text)

    def _items(self, answer: HttpAnswer) -> list[dict[str, Any]]:
        """The keys in an answer; none where it says that there is none."""
        if answer.status == 404:
            if answer.headers.get("x-consul-index") is None:
                raise self._failed(self._strange(answer))
            return []
        items = self._document(answer, list)
        if not all(isinstance(item, dict) and isinstance(item.get("Key"), str) for item in items):
            raise self._failed(self._strange(answer))
        found: list[dict[str, Any]] = items
        return found

    def _document(self, answer: HttpAnswer, kind: type) -> Any:
        try:
            document = json.loads(answer.body)
        except ValueError:
            document = None
        if not isinstance(document, kind):
            raise self._failed(self._strange(answer))
        return document

    def _strange(self, answer: HttpAnswer) -> str:
        return f"what listens at {name_of(self._server)} does not answer as Consul does (HTTP status {answer.status})"

    def _sentence(self, answer: HttpAnswer) -> str:
        name, text = name_of(self._server), " ".join(answer.body.decode(errors="replace").split())[:200]
        if answer.status == 403:
            write = '{policy = "write"}'
            needed = f'its policy needs key_prefix "{self._space.root}" {write} and session_prefix "" {write}'
            if not self._url.password:
                mend = "consul://TOKEN@HOST:PORT/PREFIX is needed"
                return f"{name} forbids that to a client without a token ({text}); {mend}, and {needed}"
            if "not found" in text.lower():
                return f"{name} does not know the token of the URL ({text}); its SecretID is needed, and {needed}"
            return f"{name} forbids that to the token of the URL ({text}); {needed}"
        if answer.status == 400 and "https" in text.lower():
            return f"{name} wants TLS; consul://HOST:PORT/PREFIX?tls=yes, or ca=FILE, is needed"
        if answer.status == 404:
            return self._strange(answer)
        return f"{name} answered: {text or 'nothing'} (HTTP status {answer.status})"


def _path(key: str, query: str) -> str:
    return f"/v1/kv/{quote(key)}{'?' if query else ''}{query}"


def _value(item: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(item.get("Value") or "")
    except ValueError:
        return b""


def _modified(item: dict[str, Any]) -> int:
    index = item.get("ModifyIndex")
    return index if isinstance(index, int) else 0
