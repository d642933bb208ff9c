"""`etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PREFIX`: a directory kept by etcd, version 3.4 or newer.

Records are keys with a lease of their ttl, notes are keys without one, below /PREFIX/; `keyspace` says where each stands.

It speaks to etcd's JSON gateway, which every member offers at its
client port, through urllib3; the watch alone is gRPC, see `etcd_watch`. Sources of the rules: "API reference", "etcd API: Watch,
Lease, Txn", "Why gRPC gateway", "Role-based access control" at etcd.io/docs/v3.4.

Rule 1: the watch of a range begins at the revision after the one at which it was read, so nothing is missed. Where that revision
is compacted away, this range is read anew, and no other.
Rule 2: a note is written by a transaction that compares its revision, so that the one of highest rank stays; so is a list of
revoked certificates.
Rule 3: a lock is a key that is made where there is none, with a lease; the revision that made it is its fencing token.
Rule 4: any member will do. The watch asks for one that sees a leader, reads are linearizable: a minority is never believed.
Rule 5: a client reads and watches a prefix for each key of its interest, and all notes. What it reads at once it reads as of one
revision. It watches a lock only while another process holds it.
"""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import math
import random
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from discovery import protocol
from discovery.backend import Believes, Capabilities, Kind, Options, everything
from discovery.backends.etcd_watch import Answer, Event, Range, WatchConnection
from discovery.backends.keyspace import Keyspace
from discovery.backends.stream import EngineStream, keepalive_options, name_of
from discovery.backends.tls import MEND, OPTIONS, tls_context
from discovery.backends.urls import EngineUrl, parse_engine_url
from discovery.client.engine_seed import EngineSeed
from discovery.client.engine_session import Change, Contents, Gone, Vacant
from discovery.client.locks import TRUSTED, EngineLock, Held, lock_time
from discovery.exceptions import DirectoryConfigurationError, EngineError, EngineRefusal
from discovery.interest import Interest, grown
from discovery.model import Note, Record, shown_url
from discovery.native import Log, native_lock
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)

EXTRA = "zmqservices[etcd]"
DEFAULT_PORT = 2379
#: Seconds for one answer. A member without a quorum does not answer at all.
TIMEOUT = 3.0
#: Keys read at once.
PAGE = 1000
#: Seconds between two signs of life, at most.
KEEP_EVERY = 2.0
#: Seconds between two looks whether the keys of this process that it does not watch are still there.
LOOK_EVERY = 10.0
#: Bytes of one answer of a watch; etcd's own bound for a request is 1.5 MB.
LONGEST_ANSWER = protocol.MAX_HELD
#: Operations in one transaction; etcd allows 128 unless it is told otherwise.
OPERATIONS = 100
#: Expired notes that a session deletes when it opens.
MAX_SWEPT = 100
#: What gRPC calls these.
INVALID, NOT_FOUND, DENIED, UNAUTHENTICATED = 3, 5, 7, 16
_MEND = "etcd://HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_etcd(url: str, options: Options) -> Kind:
    """The factory of `etcd:`. Raises DirectoryConfigurationError where urllib3 or h2 is missing, or a file that the URL names."""
    for library in ("urllib3", "h2.connection"):
        try:
            importlib.import_module(library)
        except ImportError as exc:
            raise DirectoryConfigurationError(
                f"the directory URL is {shown_url(url)!r}, and {library.partition('.')[0]}, by which etcd is reached, is not "
                f"installed; `pip install {EXTRA}` brings it"
            ) from exc
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, OPTIONS)
    # Not in vain: a file that is missing is told at once.
    tls_context(parsed)

    def session(namespace: str | None) -> EtcdSession:
        return EtcdSession(parsed, namespace, options.believes, options.keys is not None)

    seed = EngineSeed(parsed.name, session, options.ttl, options.keys)
    return Kind(parsed.name, (seed,), Capabilities(locks=True, servers=parsed.servers), options.ttl / 3, locks=seed.locks)


class _Gateway:
    """One member, as one thread uses it."""

    def __init__(self, server: tuple[str, int], context: ssl.SSLContext | None, token: str | None = None) -> None:
        import urllib3

        self._errors = urllib3.exceptions
        self.server = server
        self.name = name_of(server)
        self.token = token
        common: dict[str, Any] = {"maxsize": 1, "retries": False, "socket_options": keepalive_options()}
        self._pool: urllib3.HTTPConnectionPool
        if context is None:
            self._pool = urllib3.HTTPConnectionPool(*server, **common)
        else:
            self._pool = urllib3.HTTPSConnectionPool(*server, ssl_context=context, **common)

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request. EngineError when there is none, _Failure when it is an error of etcd's."""
        answer = self._request(path, body)
        return self._checked(answer.status, answer.data)

    def close(self) -> None:
        """Lets go of the connection."""
        self._pool.close()

    def _request(self, path: str, body: dict[str, Any]) -> Any:
        import urllib3

        headers = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}
        if self.token is not None:
            headers["Authorization"] = self.token
        try:
            return self._pool.urlopen(
                "POST",
                path,
                body=json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=TIMEOUT, read=TIMEOUT),
            )
        except self._errors.NewConnectionError as exc:
            raise EngineError(f"{self.name} cannot be reached: {_reason(exc)}") from exc
        except self._errors.SSLError as exc:
            raise EngineError(f"TLS with {self.name} failed: {_reason(exc)}; {MEND}") from exc
        except self._errors.TimeoutError as exc:
            raise EngineError(f"{self.name} did not answer within {TIMEOUT:g} s") from exc
        except self._errors.HTTPError as exc:
            raise EngineError(f"{self.name} does not answer as etcd does: {_reason(exc)}; is it TLS that it wants?") from exc

    def _checked(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise EngineError(f"what listens at {self.name} does not answer as etcd 3.4 does (HTTP status {status})")
        error = document.get("error")
        if error is not None or status != 200:
            raise _Failure(int(document.get("code") or 0), str(error or document.get("message") or f"HTTP status {status}"))
        return document


class _Failure(Exception):
    """An error of etcd's, with gRPC's code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text.removeprefix("etcdserver: ")[:200])
        self.code = code


def _reason(exc: BaseException) -> str:
    cause: BaseException = exc
    while (inner := getattr(cause, "reason", None)) is not None and isinstance(inner, BaseException):
        cause = inner
    origin = cause.__cause__ or cause.__context__ or cause
    return getattr(origin, "strerror", None) or str(origin)[:200] or type(origin).__name__


def _range(prefix: str) -> Range:
    """All keys that begin with `prefix`, which ends with a slash."""
    start = prefix.encode()
    return Range(start, start[:-1] + bytes([start[-1] + 1]))


def _span(prefix: str, **more: str) -> dict[str, Any]:
    """A question about all keys that begin with `prefix`."""
    keys = _range(prefix)
    return {"key": _text(keys.start), "range_end": _text(keys.end), **more}


@dataclass(frozen=True, slots=True)
class _Watched:
    """A range that is watched from a revision on. `prefix` is empty for a single key, that of a lock."""

    keys: Range
    revision: int
    prefix: str = ""


@dataclass
class _Found:
    """What was read at once, the cluster's id, and the revision as of which all of it was read."""

    cluster: str
    revision: int
    records: dict[str, Record] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    revoked: list[FoundList] = field(default_factory=list)
    expired: list[dict[str, Any]] = field(default_factory=list)


_sessions = itertools.count(random.randrange(1000))


class EtcdSession:
    """An `EngineSession` with one member of the cluster: the first that answers, another one at each attempt."""

    def __init__(
        self, url: EngineUrl, namespace: str | None, believes: Believes = everything, is_closed: bool = False
    ) -> None:
        self._url = url
        self._believes = believes
        root = "/" + "".join(f"{quote(part, safe='')}/" for part in url.prefix.split("/"))
        self._keyspace = Keyspace(url.name, root, namespace, is_closed=is_closed)
        self._namespace = namespace
        first = next(_sessions) % len(url.servers)
        self._servers = url.servers[first:] + url.servers[:first]
        self._gateway: _Gateway | None = None
        #: What is watched, by the number that the answers bear.
        self._watched: dict[int, _Watched] = {}
        self._numbers = itertools.count(1)
        self._locks_watched: set[bytes] = set()
        self._watching: WatchConnection | None = None
        self._watch_guard = native_lock()
        self._watch_stream: EngineStream | None = None
        self._is_closed = False
        #: Leases by the whole seconds that they were asked for: id, and seconds granted.
        self._leases: dict[int, tuple[str, float]] = {}
        #: When the last sign of life was sent that the server answered, by `lock_time`.
        self._renewed: dict[int, float] = {}
        self._leased: dict[str, int] = {}
        self._look_at = time.monotonic() + LOOK_EVERY

    # --- EngineSession ---

    def open(self, interest: Interest) -> Contents:
        """Connects to a member that answers, and reads what is of interest, and all notes."""
        errors: list[str] = []
        for server in self._servers:
            gateway = _Gateway(server, tls_context(self._url))
            try:
                self._authenticate(gateway)
                self._gateway = gateway
                return self._open(interest)
            except EngineError as exc:
                gateway.close()
                errors.append(str(exc))
        raise EngineError("; ".join(errors))

    def _open(self, interest: Interest) -> Contents:
        self._keyspace.interest = interest = None if self._namespace is None else interest
        prefixes = self._keyspace.prefixes(interest)
        found = self._read(prefixes)
        self._watch_prefixes(prefixes, found.revision + 1)
        revoked = tuple(one.signed for one in found.revoked)
        return Contents(found.cluster, list(found.records.values()), found.notes, interest, revoked)

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads and watches the prefixes of these keys."""
        self._keyspace.interest = grown(self._keyspace.interest, keys)
        prefixes = [self._keyspace.prefix_of(key) for key in sorted(keys)]
        found = self._read(prefixes)
        self._watch_prefixes(prefixes, found.revision + 1)
        return list(found.records.values())

    def watch(self) -> Iterator[list[Change]]:
        """All changes of each range from the revision after the one at which it was read."""
        assert self._gateway is not None
        server, token = self._gateway.server, self._gateway.token
        # What this thread itself has to ask.
        gateway = _Gateway(server, tls_context(self._url), token)
        connection: WatchConnection | None = None
        try:
            connection = WatchConnection(server, tls_context(self._url), token, TIMEOUT, LONGEST_ANSWER, self._opened)
            with self._watch_guard:
                self._watching = connection
                for number, watched in self._watched.items():
                    connection.ask(number, watched.keys, watched.revision)
            for answer in connection.answers():
                yield self._changes(answer, gateway)
        finally:
            with self._watch_guard:
                self._watching = None
            if connection is not None:
                connection.close()
            gateway.close()

    def _watch_prefixes(self, prefixes: list[str], revision: int) -> None:
        for prefix in prefixes:
            self._watch_range(_Watched(_range(prefix), revision, prefix))

    def _watch_range(self, watched: _Watched) -> None:
        """Watches these keys as well: at once, or when the watch begins."""
        with self._watch_guard:
            number = next(self._numbers)
            self._watched[number] = watched
            if self._watching is not None:
                self._watching.ask(number, watched.keys, watched.revision)

    def _changes(self, answer: Answer, gateway: _Gateway) -> list[Change]:
        """What an answer of the watch means."""
        if not answer.is_over:
            return [change for event in answer.events if (change := self._change(event, gateway)) is not None]
        watched = self._watched.pop(answer.watch, None)
        if watched is None or not answer.compacted:
            # It was read a moment ago, so the token of this connection has become too old for another range.
            raise EngineError(f"{gateway.name} ended the watch: {answer.reason or 'it said no more'}; it begins anew")
        _log.info("%s has compacted what changed under %.300r meanwhile; it is read anew", gateway.name, watched.keys.start)
        if not watched.prefix:
            self._watch_range(_Watched(watched.keys, answer.compacted))
            return [Vacant()]
        found = self._read([watched.prefix], gateway)
        gone: list[Change] = [
            change
            for instance, keys in list(self._keyspace.keys.items())
            if instance not in found.records
            for key in [key for key in list(keys) if key.startswith(watched.prefix)]
            if (change := self._left(key, gateway)) is not None
        ]
        self._watch_prefixes([watched.prefix], found.revision + 1)
        if self._keyspace.revoked.startswith(watched.prefix):
            # A list that was deleted meanwhile is offered again; one that is there is not written anew.
            gone.append(FoundList(b""))
        return [*found.records.values(), *found.notes, *found.revoked, *gone]

    def put_record(self, record: Record) -> None:
        """Puts the record's keys under a lease of its ttl, and deletes those of sources that it subscribes to no more."""
        keys = self._keyspace.keys_of(record)
        value = _text(protocol.pack(record.to_dict()))
        former = self._keyspace.keys.get(record.instance, set()) - set(keys)
        seconds = max(1, math.ceil(record.ttl))
        for is_last in (False, True):
            try:
                lease = self._lease(seconds)
                puts = [{"request_put": {"key": _text(key.encode()), "value": value, "lease": lease}} for key in keys]
                self._do(puts + [_deletion(key) for key in sorted(former)])
                break
            except _Failure as exc:
                if exc.code != NOT_FOUND or is_last:
                    raise EngineRefusal(str(exc)) from exc
                self._leases.pop(seconds, None)  # It ran out since; `keep` tells of the others that had it.
        self._keyspace.keys[record.instance] = set(keys)
        self._leased[record.instance] = seconds

    def _do(self, operations: list[dict[str, Any]]) -> None:
        for start in range(0, len(operations), OPERATIONS):
            self._ask("/v3/kv/txn", {"success": operations[start : start + OPERATIONS]})

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes its keys."""
        self._leased.pop(instance, None)
        self._do([_deletion(key) for key in sorted(self._keyspace.keys.get(instance, ()))])

    def put_note(self, note: Note) -> None:
        """Puts it unless one of higher rank is there; tries again when somebody else wrote meanwhile."""
        self._replace(
            self._keyspace.note_key(note),
            protocol.pack(note.to_list()),
            lambda held: self._keyspace.outranks(held, note, self._believes),
        )

    def put_revoked(self, revoked: Revocations) -> None:
        """Puts it unless a newer one is there."""
        try:
            self._replace(self._keyspace.revoked_key(revoked.authority), revoked.signed, revoked.gives_way_to)
        except _Failure as exc:
            raise EngineRefusal(self._sentence(self._gateway, exc)) from exc

    def _replace(self, name: str, new: bytes, stays: Callable[[bytes], bool]) -> None:
        """Puts a value, unless there is one that `stays`; tries again when somebody else wrote meanwhile."""
        key, value = _text(name.encode()), _text(new)
        revision = "0"
        while True:
            answer = self._ask(
                "/v3/kv/txn",
                {
                    "compare": [{"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision}],
                    "success": [{"request_put": {"key": key, "value": value}}],
                    "failure": [{"request_range": {"key": key}}],
                },
            )
            if answer.get("succeeded"):
                return
            held = answer["responses"][0]["response_range"].get("kvs", [])
            revision = held[0]["mod_revision"] if held else "0"
            if held and stays(_bytes(held[0].get("value", ""))):
                return

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Makes its key if there is none. A key of our own under an older lease is put under ours; its token stays."""
        whole = max(1, math.ceil(seconds))
        for is_last in (False, True):
            try:
                lease = self._lease(whole)
                token = self._lock(lock, lease)
                granted = self._leases[whole][1]
                return None if token is None else Held(token, self._renewed[whole] + granted * TRUSTED)
            except _Failure as exc:
                if exc.code != NOT_FOUND or is_last:
                    raise EngineRefusal(self._sentence(self._gateway, exc)) from exc
                self._leases.pop(whole, None)
        return None

    def _lock(self, lock: EngineLock, lease: str) -> int | None:
        key, owner = self._lock_key(lock), _text(lock.owner.encode())
        revision = "0"
        while True:
            put = {"request_put": {"key": key, "value": owner, "lease": lease}}
            compare = {"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": revision}
            answer = self._ask(
                "/v3/kv/txn", {"compare": [compare], "success": [put], "failure": [{"request_range": {"key": key}}]}
            )
            if answer.get("succeeded"):
                return int(revision) or int(answer["header"]["revision"])
            held = answer["responses"][0]["response_range"].get("kvs", [])
            if not held:
                revision = "0"  # It was deleted since.
            elif held[0].get("value") != owner:
                self._watch_lock(_bytes(key), int(answer["header"]["revision"]) + 1)
                return None
            elif held[0].get("lease") == lease:
                return int(held[0]["create_revision"])
            else:
                revision = held[0]["create_revision"]

    def _watch_lock(self, key: bytes, revision: int) -> None:
        """Another process holds this lock: have the watch tell when it is free."""
        if key not in self._locks_watched:
            self._locks_watched.add(key)
            self._watch_range(_Watched(Range(key), revision))

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes its key if it is ours."""
        key = self._lock_key(lock)
        compare = {"key": key, "target": "VALUE", "result": "EQUAL", "value": _text(lock.owner.encode())}
        try:
            self._ask("/v3/kv/txn", {"compare": [compare], "success": [{"request_delete_range": {"key": key}}]})
        except _Failure as exc:
            raise EngineRefusal(self._sentence(self._gateway, exc)) from exc

    def _lock_key(self, lock: EngineLock) -> str:
        return _text(self._keyspace.lock_key(lock.namespace, lock.name).encode())

    def keep(self) -> list[str]:
        """Renews every lease, or asks for a key that is never there: the answer shows that there is a quorum."""
        lost: list[str] = []
        for seconds, (lease, _) in list(self._leases.items()):
            asked = lock_time()
            answer = self._ask("/v3/lease/keepalive", {"ID": lease})
            if int(answer.get("result", {}).get("TTL", 0)) <= 0:
                del self._leases[seconds]
                lost += [instance for instance, leased in self._leased.items() if leased == seconds]
            else:
                self._renewed[seconds] = asked
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            lost += self._deleted()
        if not self._leases:
            self._ask("/v3/kv/range", {"key": _text(self._keyspace.root.encode())})
        return lost

    def _deleted(self) -> list[str]:
        """Own instances whose keys somebody else deleted, or wrote anew; those that are watched tell by themselves."""
        space = self._keyspace
        own = [(instance, key) for instance in self._leased for key in space.keys[instance] if not space.is_wanted(key)]
        there = self._listed([key for _, key in own])
        leases = {instance: self._leases.get(seconds, ("", 0.0))[0] for instance, seconds in self._leased.items()}
        return sorted({instance for instance, key in own if there.get(key) != leases[instance]})

    def keep_every(self) -> float:
        """A third of the shortest lease."""
        return min([KEEP_EVERY, *(granted / 3 for _, granted in self._leases.values())])

    def close(self) -> None:
        """Ends the watch by shutting its socket down, whichever thread waits for it."""
        self._is_closed = True
        if self._watch_stream is not None:
            self._watch_stream.cut()
        if self._gateway is not None:
            self._gateway.close()

    # --- what is asked of etcd ---

    def _ask(self, path: str, body: dict[str, Any], gateway: _Gateway | None = None) -> dict[str, Any]:
        """The answer of etcd. The thread of the watch has a gateway of its own."""
        gateway = gateway or self._gateway
        assert gateway is not None
        try:
            return gateway.call(path, body)
        except _Failure as exc:
            if exc.code == UNAUTHENTICATED and self._url.user:
                # A token lives for minutes only.
                self._authenticate(gateway)
                return self._again(gateway, path, body)
            if exc.code in (INVALID, NOT_FOUND, DENIED) and path != "/v3/kv/range":
                raise
            raise EngineError(self._sentence(gateway, exc)) from exc

    def _again(self, gateway: _Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return gateway.call(path, body)
        except _Failure as exc:
            raise EngineError(self._sentence(gateway, exc)) from exc

    def _authenticate(self, gateway: _Gateway) -> None:
        if not self._url.user:
            return
        try:
            answer = gateway.call("/v3/auth/authenticate", {"name": self._url.user, "password": self._url.password})
        except _Failure as exc:
            if "not enabled" in str(exc):
                return  # It wants no password: nobody is kept out.
            raise EngineError(f"{gateway.name} refused user {self._url.user!r} or the password: {exc}") from exc
        gateway.token = answer.get("token")

    def _sentence(self, gateway: _Gateway | None, exc: _Failure) -> str:
        assert gateway is not None
        if "user name is empty" in str(exc):
            return f"{gateway.name} wants a user name and a password: etcd://USER:PASSWORD@HOST:PORT/PREFIX"
        if exc.code == DENIED:
            who = repr(self._url.user) if self._url.user else "nobody in particular"
            prefix = self._keyspace.root if self._keyspace.is_closed else self._keyspace.prefix
            return f"{gateway.name} does not let {who} read and write under {prefix!r}; grant a role for that prefix"
        return f"{gateway.name} answered: {exc}"

    def _lease(self, seconds: int) -> str:
        if seconds not in self._leases:
            asked = lock_time()
            answer = self._ask("/v3/lease/grant", {"TTL": str(seconds)})
            self._leases[seconds] = (answer["ID"], float(answer["TTL"]))
            self._renewed[seconds] = asked
        return self._leases[seconds][0]

    def _read(self, prefixes: list[str], gateway: _Gateway | None = None) -> _Found:
        """What stands under these prefixes."""
        found: list[dict[str, Any]] = []
        cluster, revision = "", 0
        try:
            for start in range(0, len(prefixes), OPERATIONS):
                some = prefixes[start : start + OPERATIONS]
                as_of = {"revision": str(revision)} if revision else {}
                ranges = [{"request_range": _span(prefix, limit=str(PAGE), **as_of)} for prefix in some]
                answer = self._ask("/v3/kv/txn", {"success": ranges}, gateway)
                cluster = str(answer["header"].get("cluster_id", ""))
                revision = revision or int(answer["header"]["revision"])
                for prefix, response in zip(some, answer["responses"], strict=True):
                    found += self._rest(prefix, response["response_range"], revision, gateway)
        except _Failure as exc:
            raise EngineError(self._sentence(gateway or self._gateway, exc)) from exc
        sorted_out = _Found(cluster, revision)
        for item in found:
            self._sort(item, sorted_out)
        for item in sorted_out.expired[:MAX_SWEPT]:
            self._sweep(item, gateway)
        return sorted_out

    def _rest(
        self, prefix: str, answer: dict[str, Any], revision: int, gateway: _Gateway | None
    ) -> list[dict[str, Any]]:
        """The first page that was read of a prefix, and all others."""
        found: list[dict[str, Any]] = answer.get("kvs", [])
        held = found
        while answer.get("more") and held:
            key = _text(_bytes(held[-1]["key"]) + b"\0")
            more = {**_span(prefix, limit=str(PAGE), revision=str(revision)), "key": key}
            answer = self._ask("/v3/kv/range", more, gateway)
            held = answer.get("kvs", [])
            found = found + held
        return found

    def _sort(self, item: dict[str, Any], into: _Found) -> None:
        key = _bytes(item["key"]).decode(errors="replace")
        found = self._keyspace.decoded(key, _bytes(item.get("value", "")))
        if isinstance(found, Record):
            self._keyspace.came(found, key)
            into.records[found.instance] = found
        elif isinstance(found, FoundList):
            into.revoked.append(found)
        elif isinstance(found, Note):
            if found.age(time.time()) > found.ttl:
                into.expired.append(item)
            else:
                into.notes.append(found)

    def _sweep(self, item: dict[str, Any], gateway: _Gateway | None) -> None:
        """Deletes a note that is past its time, unless it was written again."""
        compare = {"key": item["key"], "target": "MOD", "result": "EQUAL", "mod_revision": item["mod_revision"]}
        delete = {"request_delete_range": {"key": item["key"]}}
        try:
            self._ask("/v3/kv/txn", {"compare": [compare], "success": [delete]}, gateway)
        except _Failure:
            pass  # Who may only read leaves it to others.

    # --- keys and values ---

    def _change(self, event: Event, gateway: _Gateway) -> Change | None:
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

    def _left(self, key: str, gateway: _Gateway) -> Gone | None:
        instance = self._keyspace.left(key, lambda keys: self._listed(keys, gateway), self._leased.__contains__)
        return None if instance is None else Gone(instance)

    def _listed(self, keys: list[str], gateway: _Gateway | None = None) -> dict[str, str]:
        """Those of these keys that are there, each with the lease that it is under."""
        found: dict[str, str] = {}
        for start in range(0, len(keys), OPERATIONS):
            some = keys[start : start + OPERATIONS]
            questions = [{"request_range": {"key": _text(key.encode()), "keys_only": True}} for key in some]
            try:
                answer = self._ask("/v3/kv/txn", {"success": questions}, gateway)
            except _Failure as exc:
                raise EngineError(self._sentence(gateway or self._gateway, exc)) from exc
            responses = zip(some, answer["responses"], strict=True)
            for key, response in responses:
                found.update((key, held.get("lease", "")) for held in response["response_range"].get("kvs", ()))
        return found

    def _opened(self, stream: EngineStream) -> None:
        self._watch_stream = stream
        if self._is_closed:
            stream.cut()


def _deletion(key: str) -> dict[str, Any]:
    return {"request_delete_range": {"key": _text(key.encode())}}


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
