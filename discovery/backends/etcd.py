"""`etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PREFIX`: a directory kept by etcd, version 3.4 or newer.

Records are keys with a lease of their ttl, notes are keys without one:

    /PREFIX/NAMESPACE/records/SERVICE/INSTANCE
    /PREFIX/NAMESPACE/notes/KEY
    /PREFIX/NAMESPACE/locks/NAME

with every part percent-encoded and every value in msgpack. It speaks to etcd's JSON gateway, which every member offers at its
client port, through urllib3. Sources of the rules: "API reference", "etcd API: Watch, Lease, Txn", "Why gRPC gateway",
"Role-based access control" at etcd.io/docs/v3.4.

Rule 1: the watch begins at the revision after the one that was read, so nothing is missed. A revision that is compacted away
ends the session, and the next one reads everything anew.
Rule 2: a note is written by a transaction that compares its revision, so that the one of highest rank stays.
Rule 3: a lock is a key that is made where there is none, with a lease; the revision that made it is its fencing token.
Rule 4: any member will do. The watch asks for one that sees a leader, reads are linearizable: a minority is never believed.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import random
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from discovery import protocol
from discovery.backend import Capabilities, Kind, Options
from discovery.backends.urls import EngineUrl, parse_engine_url, truth
from discovery.client.engines import Change, Contents, EngineSeed, Gone, Vacant
from discovery.client.locks import TRUSTED, EngineLock, Held, lock_time
from discovery.exceptions import DirectoryConfigurationError, DirectoryProtocolError, EngineError, EngineRefusal
from discovery.interest import Interest
from discovery.model import Note, Record
from discovery.native import Log, original

_log = Log(__name__)

EXTRA = "zmqservices[etcd]"
DEFAULT_PORT = 2379
#: Seconds for one answer. A member without a quorum does not answer at all.
TIMEOUT = 3.0
#: Keys read at once.
PAGE = 1000
#: Seconds between two signs of life, at most.
KEEP_EVERY = 2.0
#: Bytes of one line of a watch; etcd's own bound for a request is 1.5 MB.
MAX_LINE = protocol.MAX_HELD
#: Expired notes that a session deletes when it opens.
MAX_SWEPT = 100
#: What gRPC calls these.
INVALID, NOT_FOUND, DENIED, UNAUTHENTICATED = 3, 5, 7, 16
_MEND = "etcd://HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_etcd(url: str, options: Options) -> Kind:
    """The factory of `etcd:`. Raises DirectoryConfigurationError where urllib3 is missing, or a file that the URL names."""
    try:
        import urllib3  # noqa: F401
    except ImportError as exc:
        raise DirectoryConfigurationError(
            f"the directory URL is {url!r}, and urllib3, by which etcd is reached, is not installed; "
            f"`pip install {EXTRA}` brings it"
        ) from exc
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, ("tls", "ca", "cert", "key"))
    # Not in vain: a file that is missing is told at once.
    _tls_context(parsed)
    seed = EngineSeed(parsed.name, lambda namespace: EtcdSession(parsed, namespace), options.ttl)
    return Kind(parsed.name, (seed,), Capabilities(locks=True, servers=parsed.servers), options.ttl / 3, locks=seed.locks)


def _tls_context(url: EngineUrl) -> Any:
    options = url.options
    if not (options.keys() & {"ca", "cert", "key"} or truth(options.get("tls", "no"), url)):
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=options.get("ca"))
        if "cert" in options:
            context.load_cert_chain(options["cert"], options.get("key"))
    except (OSError, ssl.SSLError) as exc:
        raise DirectoryConfigurationError(
            f"the certificates that {url.name} names cannot be read: {exc}; ca=FILE, cert=FILE and key=FILE in PEM are needed"
        ) from exc
    return context


class _Gateway:
    """One member, as one thread uses it."""

    def __init__(self, server: tuple[str, int], context: Any, token: str | None = None) -> None:
        import urllib3

        self._errors = urllib3.exceptions
        self.server = server
        self.name = f"[{server[0]}]:{server[1]}" if ":" in server[0] else f"{server[0]}:{server[1]}"
        self.token = token
        # A path that is cut without a word ends the watch within ten seconds.
        options = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ]
        if hasattr(socket, "TCP_KEEPIDLE"):
            options += [
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
            ]
        common: dict[str, Any] = {"maxsize": 1, "retries": False, "socket_options": options}
        self._pool: urllib3.HTTPConnectionPool
        if context is None:
            self._pool = urllib3.HTTPConnectionPool(*server, **common)
        else:
            self._pool = urllib3.HTTPSConnectionPool(*server, ssl_context=context, **common)

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request. EngineError when there is none, _Failure when it is an error of etcd's."""
        answer = self._request(path, body, TIMEOUT, stream=False)
        return self._checked(answer.status, answer.data)

    def lines(self, path: str, body: dict[str, Any], opened: Any) -> Iterator[dict[str, Any]]:
        """The answers to one request, for as long as they come. `opened` is called with the socket's descriptor."""
        answer = self._request(path, body, None, stream=True)
        if answer.status != 200:
            self._checked(answer.status, answer.read())
        opened(answer.connection.sock.fileno())
        rest = b""
        try:
            for chunk in answer.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    document = self._checked(200, line)
                    yield document.get("result", document)
                if len(rest) > MAX_LINE:
                    raise EngineError(f"{self.name} sent a line of more than {MAX_LINE} bytes")
        except self._errors.HTTPError as exc:
            raise EngineError(f"{self.name} closed the connection") from exc

    def close(self) -> None:
        """Lets go of the connection."""
        self._pool.close()

    def _request(self, path: str, body: dict[str, Any], timeout: float | None, stream: bool) -> Any:
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
                timeout=urllib3.Timeout(connect=TIMEOUT, read=timeout),
                preload_content=not stream,
            )
        except self._errors.NewConnectionError as exc:
            raise EngineError(f"{self.name} cannot be reached: {_reason(exc)}") from exc
        except self._errors.SSLError as exc:
            raise EngineError(f"TLS with {self.name} failed: {_reason(exc)}; see ca=, cert= and key= in the URL") from exc
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
            # In a stream it is a map of its own, with a code of HTTP beside that of gRPC.
            code = error.get("grpc_code") if isinstance(error, dict) else document.get("code")
            text = error.get("message") if isinstance(error, dict) else error
            raise _Failure(int(code or 0), str(text or document.get("message") or f"HTTP status {status}"))
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


_sessions = itertools.count(random.randrange(1000))


class EtcdSession:
    """An `EngineSession` with one member of the cluster: the first that answers, another one at each attempt."""

    def __init__(self, url: EngineUrl, namespace: str | None) -> None:
        self._url = url
        self._root = "/" + "".join(f"{quote(part, safe='')}/" for part in url.prefix.split("/"))
        self._range = self._root if namespace is None else f"{self._root}{quote(namespace, safe='')}/"
        first = next(_sessions) % len(url.servers)
        self._servers = url.servers[first:] + url.servers[:first]
        self._gateway: _Gateway | None = None
        self._watching: _Gateway | None = None
        self._watch_fd: int | None = None
        self._is_closed = False
        self._revision = 0
        #: The key of each record that is listed or was announced here.
        self._keys: dict[str, str] = {}
        #: Leases by the whole seconds that they were asked for: id, and seconds granted.
        self._leases: dict[int, tuple[str, float]] = {}
        #: When the last sign of life was sent that the server answered, by `lock_time`.
        self._renewed: dict[int, float] = {}
        self._leased: dict[str, int] = {}

    # --- EngineSession ---

    def open(self, interest: Interest) -> Contents:
        """Connects to a member that answers, and reads all that is under the prefix."""
        errors: list[str] = []
        for server in self._servers:
            gateway = _Gateway(server, _tls_context(self._url))
            try:
                self._authenticate(gateway)
                self._gateway = gateway
                return self._read()
            except EngineError as exc:
                gateway.close()
                errors.append(str(exc))
        raise EngineError("; ".join(errors))

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Never called: `open` told everything."""
        return []

    def watch(self) -> Iterator[list[Change]]:
        """All changes from the revision after the one that was read."""
        assert self._gateway is not None
        gateway = _Gateway(self._gateway.server, _tls_context(self._url), self._gateway.token)
        self._watching = gateway
        key, end = self._span()
        request = {"key": key, "range_end": end, "start_revision": str(self._revision + 1)}
        try:
            for result in gateway.lines("/v3/watch", {"create_request": request}, self._opened):
                if result.get("canceled"):
                    if result.get("compact_revision"):
                        raise EngineError(f"{gateway.name} has compacted what changed meanwhile; everything is read anew")
                    raise EngineError(f"{gateway.name} ended the watch: {result.get('cancel_reason', 'it said no more')}")
                changes = [change for event in result.get("events", ()) if (change := self._change(event)) is not None]
                yield changes
        except _Failure as exc:
            raise EngineError(self._sentence(gateway, exc)) from exc
        finally:
            self._watch_fd = None
            gateway.close()

    def put_record(self, record: Record) -> None:
        """Puts the key under a lease of the record's ttl."""
        key = self._record_key(record)
        value = _text(protocol.pack(record.to_dict()))
        seconds = max(1, math.ceil(record.ttl))
        for is_last in (False, True):
            try:
                self._put(key, value, self._lease(seconds))
                break
            except _Failure as exc:
                if exc.code != NOT_FOUND or is_last:
                    raise EngineRefusal(str(exc)) from exc
                self._leases.pop(seconds, None)  # It ran out since; `keep` tells of the others that had it.
        self._keys[record.instance] = key
        self._leased[record.instance] = seconds

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes its key."""
        self._leased.pop(instance, None)
        key = self._keys.get(instance)
        if key is not None:
            self._ask("/v3/kv/deleterange", {"key": _text(key.encode())})

    def put_note(self, note: Note) -> None:
        """Puts it unless one of higher rank is there; tries again when somebody else wrote meanwhile."""
        key = _text(f"{self._root}{quote(note.namespace, safe='')}/notes/{quote(note.key, safe='')}".encode())
        value = _text(protocol.pack(note.to_list()))
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
            there = self._note(held[0]) if held else None
            if there is not None and there.rank >= note.rank:
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
                return None
            elif held[0].get("lease") == lease:
                return int(held[0]["create_revision"])
            else:
                revision = held[0]["create_revision"]

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes its key if it is ours."""
        key = self._lock_key(lock)
        compare = {"key": key, "target": "VALUE", "result": "EQUAL", "value": _text(lock.owner.encode())}
        try:
            self._ask("/v3/kv/txn", {"compare": [compare], "success": [{"request_delete_range": {"key": key}}]})
        except _Failure as exc:
            raise EngineRefusal(self._sentence(self._gateway, exc)) from exc

    def _lock_key(self, lock: EngineLock) -> str:
        return _text(f"{self._root}{quote(lock.namespace, safe='')}/locks/{quote(lock.name, safe='')}".encode())

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
        if not self._leases:
            self._ask("/v3/kv/range", {"key": _text(self._root.encode())})
        return lost

    def keep_every(self) -> float:
        """A third of the shortest lease."""
        return min([KEEP_EVERY, *(granted / 3 for _, granted in self._leases.values())])

    def close(self) -> None:
        """Ends the watch by shutting its socket down, whichever thread waits for it."""
        self._is_closed = True
        if (fd := self._watch_fd) is not None:
            _shut(fd)
        if self._gateway is not None:
            self._gateway.close()

    # --- what is asked of etcd ---

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert self._gateway is not None
        gateway = self._gateway
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
            return f"{gateway.name} does not let {who} read and write under {self._range!r}; grant a role for that prefix"
        return f"{gateway.name} answered: {exc}"

    def _put(self, key: str, value: str, lease: str) -> None:
        self._ask("/v3/kv/put", {"key": _text(key.encode()), "value": value, "lease": lease})

    def _lease(self, seconds: int) -> str:
        if seconds not in self._leases:
            asked = lock_time()
            answer = self._ask("/v3/lease/grant", {"TTL": str(seconds)})
            self._leases[seconds] = (answer["ID"], float(answer["TTL"]))
            self._renewed[seconds] = asked
        return self._leases[seconds][0]

    def _span(self) -> tuple[str, str]:
        """First key, and the one after the last, of all that is read."""
        start = self._range.encode()
        return _text(start), _text(start[:-1] + bytes([start[-1] + 1]))

    def _read(self) -> Contents:
        key, end = self._span()
        records: list[Record] = []
        notes: list[Note] = []
        expired: list[dict[str, Any]] = []
        body: dict[str, Any] = {"key": key, "range_end": end, "limit": str(PAGE)}
        while True:
            answer = self._ask("/v3/kv/range", body)
            header = answer["header"]
            self._revision = int(body.setdefault("revision", header["revision"]))
            held = answer.get("kvs", [])
            for item in held:
                self._sort(item, records, notes, expired)
            if not answer.get("more") or not held:
                break
            body["key"] = _text(_bytes(held[-1]["key"]) + b"\0")
        for item in expired[:MAX_SWEPT]:
            self._sweep(item)
        return Contents(str(header.get("cluster_id", "")), records, notes)

    def _sort(self, item: dict[str, Any], records: list[Record], notes: list[Note], expired: list[dict[str, Any]]) -> None:
        found = self._decoded(item)
        if isinstance(found, Record):
            self._keys[found.instance] = _bytes(item["key"]).decode()
            records.append(found)
        elif isinstance(found, Note):
            if found.age(time.time()) > found.ttl:
                expired.append(item)
            else:
                notes.append(found)

    def _sweep(self, item: dict[str, Any]) -> None:
        """Deletes a note that is past its time, unless it was written again."""
        compare = {"key": item["key"], "target": "MOD", "result": "EQUAL", "mod_revision": item["mod_revision"]}
        delete = {"request_delete_range": {"key": item["key"]}}
        try:
            self._ask("/v3/kv/txn", {"compare": [compare], "success": [delete]})
        except _Failure:
            pass  # Who may only read leaves it to others.

    # --- keys and values ---

    def _record_key(self, record: Record) -> str:
        parts = (record.namespace, "records", record.service, record.instance)
        return self._root + "/".join(quote(part, safe="") for part in parts)

    def _change(self, event: dict[str, Any]) -> Change | None:
        item = event["kv"]
        if event.get("type") != "DELETE":
            found = self._decoded(item)
            if isinstance(found, Record):
                self._keys[found.instance] = _bytes(item["key"]).decode()
            return found
        parts = _bytes(item["key"]).decode(errors="replace").removeprefix(self._root).split("/")
        if len(parts) == 3 and parts[1] == "locks":
            return Vacant()
        return Gone(unquote(parts[3])) if len(parts) == 4 and parts[1] == "records" else None

    def _decoded(self, item: dict[str, Any]) -> Record | Note | None:
        """What a key holds; None, and a line in the log, for what is of no use."""
        key = _bytes(item["key"]).decode(errors="replace")
        parts = key.removeprefix(self._root).split("/")
        if len(parts) == 3 and parts[1] == "notes":
            return self._note(item)
        if len(parts) != 4 or parts[1] != "records":
            return None
        try:
            record = Record.from_dict(protocol.unpack(_bytes(item.get("value", ""))))
        except DirectoryProtocolError as exc:
            _log.warning("passed over key %.300s of directory %s: %s", key, self._url.name, exc)
            return None
        is_own_key = [quote(name, safe="") for name in (record.namespace, "records", record.service, record.instance)] == parts
        return record if is_own_key else None

    def _note(self, item: dict[str, Any]) -> Note | None:
        try:
            return Note.from_list(protocol.unpack(_bytes(item.get("value", ""))))
        except DirectoryProtocolError as exc:
            _log.warning("passed over a note of directory %s: %s", self._url.name, exc)
            return None

    def _opened(self, fd: int) -> None:
        self._watch_fd = fd
        if self._is_closed:
            _shut(fd)


def _shut(fd: int) -> None:
    # By a descriptor of its own, and by the socket as it was before gevent: another thread's hub may wait for that one.
    try:
        with original("socket", "socket")(fileno=os.dup(fd)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
