"""`zookeeper://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PREFIX`: a directory kept by ZooKeeper, version 3.5 or newer.

A record is an ephemeral node, a note a lasting one. Every part of a path is percent-encoded, every value is in msgpack:

    /PREFIX/NAMESPACE/records/SERVICE/INSTANCE;INCARNATION.VERSION
    /PREFIX/NAMESPACE/subscribers/SOURCE/INSTANCE;INCARNATION.VERSION
    /PREFIX/NAMESPACE/notes/KEY;STAMP.DIGEST
    /PREFIX/NAMESPACE/locks/NAME
    /PREFIX/@revoked/AUTHORITY;NUMBER.DIGEST        a list of revoked certificates, of all namespaces; none is called `@revoked`

A lock is an ephemeral node that is made where there is none; the transaction that made it (czxid) is its fencing token. There is
no queue of sequential nodes: callers stand for a lock when it is their turn, see `zmqservices.cluster.leadership`.

It uses kazoo, with a handler of its own (`discovery.backends.native_handler` says why). Sources of the rules: "ZooKeeper
Programmer's Guide" (sessions, watches, consistency guarantees, access control) at zookeeper.apache.org.

A record stands once under its service, and once more under each source that it subscribes to: a client reads and watches the
services and the sources of its interest alone.

Rule 1: a node is written once. A change makes another node and deletes the one before, so that a watch for the children of a
service tells of everything: a client has one watch for each service, not one for each instance.
Rule 2: a lost connection (SUSPENDED) is not a lost session (LOST). The next attempt takes the session up again, and its
ephemeral nodes are still there; only when the server says that it has expired a new one is begun, and all records are made anew.
Rule 3: watches are gone with the connection. Each attempt reads everything anew, after a `sync`: any member may lag behind.
Rule 4: the server tells of changes in their order. What is read is handed on only when nothing is left to be read, so that a
change is never seen without those before it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

from discovery import protocol
from discovery.backend import Believes, Capabilities, Kind, Options, everything
from discovery.backends.keyspace import REVOKED
from discovery.backends.native_handler import NO_TLS, NativeHandler, NoAnswerError, Reasons
from discovery.backends.tls import OPTIONS, tls_context
from discovery.backends.urls import EngineUrl, parse_engine_url
from discovery.client.engine_seed import EngineSeed
from discovery.client.engine_session import Change, Contents, Gone, Vacant
from discovery.client.locks import TRUSTED, EngineLock, Held, lock_time
from discovery.exceptions import DirectoryConfigurationError, DirectoryProtocolError, EngineError, EngineRefusal
from discovery.interest import EVERYTHING, Interest, sources_of, split
from discovery.model import Note, Record, shown_url
from discovery.native import Log, NativeEvent, getaddrinfo, native_lock, original
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)
_SimpleQueue: Any = original("queue", "SimpleQueue")

EXTRA = "zmqservices[zookeeper]"
DEFAULT_PORT = 2181
#: Seconds for one answer. A member without a quorum does not answer at all.
TIMEOUT = 3.0
#: Seconds between two signs of life, at most.
KEEP_EVERY = 2.0
#: Seconds for the server to confirm that a session is closed.
CLOSE_TIMEOUT = 1.0
#: Requests in flight at once.
PIPELINE = 500
#: Rounds of reading after which a directory that changes all the time is handed on as it is.
MAX_ROUNDS = 50
#: Notes that are past their time, or replaced, and that a session deletes when it opens.
MAX_SWEPT = 100
#: Addresses of one host that are tried.
MAX_ADDRESSES = 4
#: Who may read and write what a client makes, by the word in the URL.
ACCESS = ("private", "readable", "open")
#: Put among the events: there is something to hand on.
_LATER = object()
_MEND = "zookeeper://HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_zookeeper(url: str, options: Options) -> Kind:
    """The factory of `zookeeper:`. Raises DirectoryConfigurationError where kazoo is missing."""
    try:
        import kazoo.client  # noqa: F401
    except ImportError as exc:
        raise DirectoryConfigurationError(
            f"the directory URL is {shown_url(url)!r}, and kazoo, by which ZooKeeper is reached, is not installed; "
            f"`pip install {EXTRA}` brings it"
        ) from exc
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, ("access", *OPTIONS))
    # Not in vain: a file that is missing is told at once.
    tls_context(parsed)
    access = parsed.options.get("access", "private" if parsed.user else "open")
    if access not in ACCESS or (access != "open" and not parsed.user):
        raise DirectoryConfigurationError(
            f"the option access of the directory URL {parsed.name} is {access!r}; open is needed, or private or readable with "
            "a user and a password"
        )
    resumed: dict[str | None, _Resumable] = {}

    def session(namespace: str | None) -> ZooKeeperSession:
        resumable = resumed.setdefault(namespace, _Resumable())
        is_closed = options.keys is not None
        return ZooKeeperSession(parsed, access, options.ttl, namespace, resumable, options.believes, is_closed)

    seed = EngineSeed(parsed.name, session, options.ttl, options.keys)
    return Kind(parsed.name, (seed,), Capabilities(locks=True, servers=parsed.servers), options.ttl / 3, locks=seed.locks)


class _Resumable:
    """The session with the servers, which outlives connections: its id and its password, and what it made."""

    def __init__(self) -> None:
        self.client_id: tuple[int, bytes] | None = None
        #: The nodes of each record of this process that were made in this session.
        self.own: dict[str, set[str]] = {}


class _Connection:
    """One connection to one member, in a session of its own or in the one of `client_id`."""

    def __init__(
        self, address: str, url: EngineUrl, seconds: float, client_id: object, ended: Callable[[], None], host: str
    ) -> None:
        from kazoo.client import KazooClient
        from kazoo.protocol.states import KazooState
        from kazoo.retry import KazooRetry

        context = tls_context(url)
        self._settled = NativeEvent()
        self._ended = ended
        self._is_encrypted = context is not None
        self._is_closed = False
        self._lock = native_lock()
        self.has_expired = False
        self.handler = NativeHandler(TIMEOUT, self._over, None if context is None else (context, host))
        once = KazooRetry(max_tries=1, sleep_func=self.handler.sleep_func)
        auth = [("digest", f"{url.user}:{url.password}")] if url.user else []
        self.client = KazooClient(
            address,
            timeout=seconds,
            client_id=client_id,
            handler=self.handler,
            auth_data=auth,
            connection_retry=once,
            command_retry=once,
            logger=Reasons(self.handler),
        )
        host, port = address.rsplit(":", 1)
        # kazoo would look the address up once more, by a function that gevent may have patched.
        self.client._connection._expand_client_hosts = lambda: [(host, host.strip("[]"), int(port))]
        if client_id is not None:
            # What it is: kazoo tells its listeners of changes only, and a new client would have lost its session already.
            self.client.state = KazooState.SUSPENDED
        self.client.add_listener(self._changed)

    def open(self) -> bool:
        """Connects. False when the session that was to be taken up has expired. EngineError when the server does not answer."""
        self.client.start_async()
        self._settled.wait(TIMEOUT, blocking=True)
        if self.client.connected:
            return True
        if self.has_expired:
            return False
        reason = self.handler.reason
        if reason is None:
            raise EngineError(f"did not answer within {TIMEOUT:g} s")
        if reason.startswith(("cannot be reached", NO_TLS)):
            raise EngineError(reason)
        question = "" if self._is_encrypted else "does it want TLS (?tls=yes), "
        raise EngineError(f"accepted the connection and closed it; has it a quorum, {question}and is it ZooKeeper at all?")

    def why_it_ended(self) -> str:
        """The second half of a sentence that begins with the server's name."""
        return "did not answer in time" if "ping" in (self.handler.reason or "") else "closed the connection"

    def close(self, is_for_good: bool) -> None:
        """Ends the connection and waits for that. `is_for_good`: the session is closed, and its nodes are deleted."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self.handler.cut(CLOSE_TIMEOUT if is_for_good else 0.0)
        self.client.stop()
        self.client.close()

    def _changed(self, state: object) -> None:
        from kazoo.protocol.states import KeeperState

        if self.client.client_state == KeeperState.EXPIRED_SESSION:
            self.has_expired = True
        self._settled.set()

    def _over(self) -> None:
        self._settled.set()
        self._ended()


_sessions = itertools.count(random.randrange(1000))


class ZooKeeperSession:
    """An `EngineSession` with one member of the ensemble: the first that answers, another one at each attempt."""

    def __init__(
        self,
        url: EngineUrl,
        access: str,
        seconds: float,
        namespace: str | None,
        resumable: _Resumable,
        believes: Believes = everything,
        is_closed: bool = False,
    ) -> None:
        from kazoo import exceptions, security

        self._errors: Any = exceptions
        self._url = url
        self._seconds = seconds
        self._believes = believes
        self._is_closed_cluster = is_closed
        self._namespace = namespace
        self._resumable = resumable
        self._acl = {
            "open": security.OPEN_ACL_UNSAFE,
            "private": security.CREATOR_ALL_ACL,
            "readable": [*security.CREATOR_ALL_ACL, *security.READ_ACL_UNSAFE],
        }[access]
        self._base = "".join(f"/{_name(part)}" for part in url.prefix.split("/"))
        first = next(_sessions) % len(url.servers)
        self._servers = url.servers[first:] + url.servers[:first]
        self._server = ""
        self._connection: _Connection | None = None
        self._has_failed = False
        #: Paths whose children have changed, as the server told it; None when the connection is over.
        self._events: Any = _SimpleQueue()
        #: The children of every path that is watched.
        self._children: dict[str, frozenset[str]] = {}
        #: The nodes of each instance, by path. More than one while a change replaces it.
        self._records: dict[str, dict[str, Record]] = {}
        #: The nodes of each note, by path, under its namespace and key.
        self._notes: dict[tuple[str, str], dict[str, Note]] = {}
        #: The nodes of lists of revoked certificates, by path.
        self._lists: dict[str, bytes] = {}
        #: For the thread that writes. All others are for the one that watches, and for `extend`, never at once.
        self._own = resumable.own
        #: Notes that this session wrote: it deletes what they replace.
        self._written: set[str] = set()
        self._interest: Interest = EVERYTHING
        #: The nodes of interest that may be made later; none where everything is.
        self._wanted: set[str] = set()
        #: What an extension read that was not asked for.
        self._later: list[Change] = []
        #: Paths that the server told of, and that are about to be read.
        self._taken: set[str] = set()
        self._is_vacant = False

    # --- EngineSession ---

    def open(self, interest: Interest) -> Contents:
        """Connects to a member that answers, and reads what is of interest; everything for a client of all namespaces."""
        self._interest = interest if self._namespace is not None else EVERYTHING
        errors: list[str] = []
        for server in self._servers:
            try:
                return self._open_at(server)
            except EngineError as exc:
                errors.append(str(exc))
                self._end(is_for_good=False)
        self._has_failed = True
        raise EngineError("; ".join(errors))

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads the nodes of these services and sources, and all else that has changed: some of it may come before them."""
        folders = self._folders(keys)
        self._wanted |= folders
        changes = self._settle(folders | self._take_paths())
        self._later = [change for change in changes if not isinstance(change, Record)]
        self._events.put(_LATER)
        return [change for change in changes if isinstance(change, Record)]

    def watch(self) -> Iterator[Iterable[Change]]:
        """All changes after what was read. They are read when they are gone through, and so never beside `extend`."""
        while True:
            self._taken = self._taken | self._changed_paths(is_patient=True)
            yield self._changes()

    def _changes(self) -> Iterator[Change]:
        later, self._later = self._later, []
        yield from later
        yield from self._settle(self._take_paths())
        if self._is_vacant:
            self._is_vacant = False
            yield Vacant()

    def put_record(self, record: Record) -> None:
        """Makes its nodes, and deletes those of its earlier versions."""
        namespace = self._namespace_path(record.namespace)
        folders = [f"{namespace}/records/{_name(record.service)}"]
        folders += [f"{namespace}/subscribers/{_name(source)}" for source in sources_of(record)]
        paths = {f"{folder}/{_name(record.instance)};{record.incarnation}.{record.version}" for folder in folders}
        value = protocol.pack(record.to_dict())
        with self._refusals(folders[0]):
            self._own[record.instance] = self._own.get(record.instance, set()) | paths
            for path in paths:
                self._make(path, value, is_ephemeral=True)
            self._delete(self._own[record.instance] - paths)
        self._own[record.instance] = paths

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes its nodes."""
        nodes = {*self._own.get(instance, ()), *list(self._records.get(instance, ()))}
        with self._refusals(self._base):
            self._delete(nodes)
        # Only now: where the connection is lost before the answer, the next attempt must know what to delete.
        self._own.pop(instance, None)

    def put_note(self, note: Note) -> None:
        """Makes its node unless one of higher rank is known, and deletes those that it replaces."""
        held = dict(self._notes.get((note.namespace, note.key), {}))
        if any(other.rank >= note.rank for other in held.values()):
            return
        value = protocol.pack(note.to_list())
        digest = hashlib.sha256(value).hexdigest()[:8]
        path = f"{self._namespace_path(note.namespace)}/notes/{_name(note.key)};{note.stamp}.{digest}"
        with self._refusals(path):
            self._written.add(path)
            self._make(path, value, is_ephemeral=False)
            self._delete(held)

    def put_revoked(self, revoked: Revocations) -> None:
        """Makes its node unless a newer list of its authority is known, and deletes what else stands in its place."""
        authority = revoked.authority.hex()
        held = {path: signed for path, signed in list(self._lists.items()) if self._parts(path)[1].startswith(f"{authority};")}
        staying = {path for path, signed in held.items() if revoked.gives_way_to(signed)}
        with self._refusals(f"{self._base}/{REVOKED}"):
            for attempt in range(0 if staying else 5):
                # Another one where somebody put something else at the path: a node that is made anew might not be noticed.
                digest = hashlib.sha256(revoked.signed + bytes([attempt])).hexdigest()[:8]
                path = f"{self._base}/{REVOKED}/{authority};{revoked.number}.{digest}"
                self._make(path, revoked.signed, is_ephemeral=False)
                if self._get(self._client.get_async(path))[0] == revoked.signed:
                    break
            self._delete(held.keys() - staying)

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Makes its node if there is none. One of our own from a former session is made anew."""
        path = self._lock_path(lock)
        with self._refusals(path):
            for _ in range(5):
                asked = lock_time()
                try:
                    token = self._lock(lock, path)
                except self._errors.NoNodeError:
                    self._make_parents(path)  # Or it was deleted since.
                    continue
                assert self._connection is not None
                return None if token is None else Held(token, asked + self._connection.handler.granted() * TRUSTED)
        return None

    def _lock(self, lock: EngineLock, path: str) -> int | None:
        owner = lock.owner.encode()
        try:
            _, made = self._get(self._client.create_async(path, owner, acl=self._acl, ephemeral=True, include_data=True))
            return int(made.czxid)
        except self._errors.NodeExistsError:
            value, stat = self._get(self._client.get_async(path, self._lock_changed))
        if value != owner:
            return None
        if stat.ephemeralOwner == self._client.client_id[0]:
            return int(stat.czxid)
        self._delete([path])
        raise self._errors.NoNodeError

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes its node if it is ours."""
        path = self._lock_path(lock)
        with self._refusals(path):
            try:
                value, stat = self._get(self._client.get_async(path))
                if value == lock.owner.encode():
                    self._get(self._client.delete_async(path, stat.version))
            except (self._errors.NoNodeError, self._errors.BadVersionError):
                pass

    def _lock_path(self, lock: EngineLock) -> str:
        return f"{self._namespace_path(lock.namespace)}/locks/{_name(lock.name)}"

    def _lock_changed(self, event: Any) -> None:
        if event.path is not None:
            self._events.put(Vacant())

    def keep(self) -> list[str]:
        """kazoo renews the session by itself; the answer shows that the server is alive."""
        self._get(self._client.exists_async(self._base))
        return []

    def keep_every(self) -> float:
        """A third of the session's time, as the server granted it."""
        assert self._connection is not None
        return min(KEEP_EVERY, self._connection.handler.granted() / 3)

    def close(self) -> None:
        """Closes the session, unless its connection has failed: then the next attempt takes it up."""
        self._end(is_for_good=not self._has_failed)
        self._events.put(None)

    # --- the connection ---

    @property
    def _client(self) -> Any:
        assert self._connection is not None
        return self._connection.client

    def _open_at(self, server: tuple[str, int]) -> Contents:
        self._server = f"[{server[0]}]:{server[1]}" if ":" in server[0] else f"{server[0]}:{server[1]}"
        self._connect(server)
        self._resumable.client_id = self._client.client_id
        try:
            paths = self._make_folders()
            self._get(self._client.sync_async(self._base))
            stat = self._get(self._client.exists_async(self._base))
        except EngineRefusal as exc:
            raise EngineError(str(exc)) from exc
        except self._errors.ZookeeperError as exc:
            raise self._read_error(exc, self._base) from exc
        self._settle(paths)
        self._sweep()
        records = [max(nodes.values(), key=_rank) for nodes in self._records.values() if nodes]
        notes = [max(nodes.values(), key=_rank) for nodes in self._notes.values() if nodes]
        # An ensemble that lost everything has another node there, even at the same place in its history.
        cluster = f"{stat.czxid:x}-{stat.ctime:x}" if stat else ""
        return Contents(cluster, records, notes, self._interest, tuple(self._lists.values()))

    def _connect(self, server: tuple[str, int]) -> None:
        """Takes the session up, or begins one."""
        errors = []
        for address in _addresses(server, self._server):
            try:
                if self._connect_to(address, self._resumable.client_id, server[0]):
                    return
                _log.info("the session with %s at %s has expired; a new one begins", self._url.name, self._server)
                self._resumable.client_id = None
                self._connect_to(address, None, server[0])
                return
            except EngineError as exc:
                errors.append(f"{self._server} {exc}")
                self._end(is_for_good=False)
        raise EngineError("; ".join(dict.fromkeys(errors)))

    def _connect_to(self, address: str, client_id: tuple[int, bytes] | None, host: str) -> bool:
        self._end(is_for_good=False)
        self._has_failed = False
        self._events = events = _SimpleQueue()
        self._children, self._records, self._notes, self._wanted, self._later = {}, {}, {}, set(), []
        self._taken, self._lists = set(), {}
        if client_id is None:
            self._own.clear()
        self._connection = _Connection(address, self._url, self._seconds, client_id, lambda: events.put(None), host)
        return self._connection.open()

    def _end(self, is_for_good: bool) -> None:
        connection = self._connection
        if connection is not None:
            if is_for_good:
                self._resumable.client_id = None
            connection.close(is_for_good)

    def _get(self, result: Any) -> Any:
        """The answer to a request. EngineError when the connection fails; kazoo's own errors for what the server said."""
        errors = self._errors
        try:
            return result.get(timeout=TIMEOUT)
        except NoAnswerError:
            reason = f"did not answer within {TIMEOUT:g} s"
        except (errors.ConnectionLoss, errors.SessionExpiredError, errors.SessionMovedError, errors.AuthFailedError):
            assert self._connection is not None
            reason = self._connection.why_it_ended()
        self._has_failed = True
        raise EngineError(f"{self._server} {reason}")

    def _read_error(self, exc: Exception, path: str) -> EngineError:
        if isinstance(exc, self._errors.NoAuthError):
            return EngineError(self._sentence("read", path))
        return EngineError(f"{self._server} answered: {type(exc).__name__} {exc!s:.200}")

    def _sentence(self, what: str, path: str) -> str:
        if not self._url.user:
            return (
                f"{self._server} does not let a client without a password {what} {path!r}; "
                "zookeeper://USER:PASSWORD@HOST:PORT/PREFIX is needed, or an ACL there for everybody"
            )
        return (
            f"{self._server} does not let user {self._url.user!r} with this password {what} {path!r}; "
            "the password is needed with which it was made, or another ACL"
        )

    @contextmanager
    def _refusals(self, path: str) -> Iterator[None]:
        """Within it, what the server refuses is about one record or note; all else goes on."""
        try:
            yield
        except self._errors.NoAuthError as exc:
            raise EngineRefusal(self._sentence("write", path)) from exc
        except self._errors.ZookeeperError as exc:
            raise EngineRefusal(f"{self._server} answered: {type(exc).__name__} {exc!s:.200}") from exc

    # --- writing ---

    def _make_folders(self) -> set[str]:
        """Makes what is missing of the prefix, and returns the paths from which reading begins."""
        if self._is_closed_cluster:
            self._make_parents(f"{self._base}/{REVOKED}/x")
        if self._namespace is None:
            self._make_parents(f"{self._base}/x")
            return {self._base}
        folders = {f"{self._namespace_path(self._namespace)}/{name}" for name in ("records", "notes")}
        for folder in folders:
            self._make_parents(f"{folder}/x")
        revoked = {f"{self._base}/{REVOKED}"} if self._is_closed_cluster else set()
        if self._interest is None:
            return folders | revoked
        self._wanted = self._folders(self._interest)
        return {f"{self._namespace_path(self._namespace)}/notes", *self._wanted, *revoked}

    def _folders(self, keys: frozenset[str]) -> set[str]:
        """The nodes whose children are the records of these keys."""
        assert self._namespace is not None
        namespace = self._namespace_path(self._namespace)
        found = [split(key) for key in keys]
        return {f"{namespace}/{'records' if is_service else 'subscribers'}/{_name(name)}" for is_service, name in found}

    def _make_parents(self, path: str) -> None:
        """Makes the lasting nodes above `path`. EngineRefusal where that is forbidden."""
        parts = path.split("/")[1:-1]
        for depth in range(1, len(parts) + 1):
            parent = "/" + "/".join(parts[:depth])
            try:
                # Asked first: whoever may not create under a node is refused, even when the child is there already.
                if self._get(self._client.exists_async(parent)) is None:
                    self._get(self._client.create_async(parent, b"", acl=self._acl))
            except self._errors.NodeExistsError:
                pass
            except self._errors.NoAuthError as exc:
                raise EngineRefusal(self._sentence("make", parent)) from exc

    def _make(self, path: str, value: bytes, is_ephemeral: bool) -> None:
        """Makes a node. A note that is there already is the same one; an ephemeral node may belong to a session that ends."""
        for _ in range(5):
            try:
                self._get(self._client.create_async(path, value, acl=self._acl, ephemeral=is_ephemeral))
                return
            except self._errors.NoNodeError:
                self._make_parents(path)
            except self._errors.NodeExistsError:
                stat = self._get(self._client.exists_async(path))
                if stat is not None and (not is_ephemeral or stat.ephemeralOwner == self._client.client_id[0]):
                    if is_ephemeral:
                        # A record that was signed anew is of the same version.
                        self._get(self._client.set_async(path, value))
                    return
                self._delete([path])
        raise EngineRefusal(f"{path!r} is made and deleted by somebody else all the time")

    def _delete(self, paths: Iterable[str]) -> None:
        """Deletes nodes; one that is not there is passed over."""
        for result in [self._client.delete_async(path) for path in paths]:
            try:
                self._get(result)
            except self._errors.NoNodeError:
                pass

    def _sweep(self) -> None:
        """Deletes notes that are past their time, or replaced."""
        now = time.time()
        old: list[str] = []
        for nodes in self._notes.values():
            best = max(nodes.values(), key=_rank, default=None)
            old += [path for path, note in nodes.items() if note is not best or note.age(now) > note.ttl]
        try:
            self._delete(old[:MAX_SWEPT])
        except self._errors.NoAuthError:
            pass  # Who may only read leaves it to others.

    # --- reading ---

    def _changed_paths(self, is_patient: bool) -> set[str]:
        """The paths that the server told of. Waits for the first one when it is patient; EngineError at the end."""
        paths: set[str] = set()
        while is_patient or not self._events.empty():
            path = self._events.get()
            if path is None:
                self._has_failed = True
                raise EngineError(f"{self._server} {'' if self._connection is None else self._connection.why_it_ended()}")
            if isinstance(path, Vacant):
                self._is_vacant = True
            elif path is not _LATER:
                paths.add(path)
            is_patient = False
        return paths

    def _take_paths(self) -> set[str]:
        """The paths that the server told of and that nobody has read yet."""
        taken, self._taken = self._taken, set()
        return taken

    def _settle(self, paths: set[str]) -> list[Change]:
        """Reads these paths, and all that changed while they were read."""
        changes: list[Change] = []
        for _ in range(MAX_ROUNDS):
            self._read(paths, changes)
            paths = self._changed_paths(is_patient=False)
            if not paths:
                break
        else:
            for path in paths:
                self._events.put(path)
        return changes

    def _read(self, paths: Iterable[str], changes: list[Change]) -> None:
        """Lists the children of these paths, and of those that are found there; fetches what is new."""
        fetched: list[str] = []
        left: list[str] = []
        while paths:
            found: list[str] = []
            for path, names in self._ask(sorted(paths), lambda path: self._client.get_children_async(path, self._told)):
                before = self._children.pop(path, frozenset())
                if names is None:
                    self._missing(path)
                    now: frozenset[str] = frozenset()
                    if path in self._wanted:
                        found += self._made_since(path)
                else:
                    now = self._children[path] = frozenset(names)
                if self._is_folder(path):
                    found += [child for name in now if self._is_read(child := f"{path}/{name}") and child not in self._children]
                else:
                    left += [f"{path}/{name}" for name in before - now]
                    fetched += [f"{path}/{name}" for name in now - before]
            paths = found
        for path, answer in self._ask(fetched, self._client.get_async):
            if answer is not None:
                self._came(path, answer[0], changes)
        # After those that came: of two versions one is there all the time.
        for path in left:
            self._left(path, changes)

    def _made_since(self, path: str) -> list[str]:
        """Has the server tell when this node is made; the node itself if that has been already."""
        stats = self._ask([path], lambda path: self._client.exists_async(path, self._told))
        return [path for path, stat in stats if stat is not None]

    def _is_folder(self, path: str) -> bool:
        """Whether the children of this node have children; otherwise they are records or notes."""
        parts = self._parts(path)
        return parts != [REVOKED] and (len(parts) < 2 or (len(parts) == 2 and parts[1] == "records"))

    def _is_read(self, path: str) -> bool:
        parts = self._parts(path)
        if parts == [REVOKED]:
            return self._is_closed_cluster
        return len(parts) != 2 or parts[1] in ("records", "notes")

    def _told(self, event: Any) -> None:
        if event.path is not None:
            self._events.put(event.path)

    def _ask(self, paths: list[str], ask: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
        """The answer for each path; None for a node that is not there."""
        for start in range(0, len(paths), PIPELINE):
            for path, result in [(path, ask(path)) for path in paths[start : start + PIPELINE]]:
                try:
                    yield path, self._get(result)
                except self._errors.NoNodeError:
                    yield path, None
                except self._errors.ZookeeperError as exc:
                    raise self._read_error(exc, path) from exc

    def _missing(self, path: str) -> None:
        # No watch is left there, so it is for the next attempt to make it again.
        parts = self._parts(path)
        if path == self._base or parts == [REVOKED] or (self._namespace is not None and len(parts) == 2):
            self._has_failed = True
            raise EngineError(f"somebody deleted {path!r} at {self._server}; it is made again")

    def _came(self, path: str, value: bytes, changes: list[Change]) -> None:
        if self._parts(path)[0] == REVOKED:
            self._lists[path] = value
            changes.append(FoundList(value))
            return
        parts = [unquote(part) for part in self._parts(path)]
        name = parts[-1].rpartition(";")[0]
        try:
            if parts[1] == "notes":
                note = Note.from_list(protocol.unpack(value))
                if (note.namespace, note.key) == (parts[0], name) and self._believes(note, self._url.name):
                    self._note_came(path, note, changes)
                return
            record = Record.from_dict(protocol.unpack(value))
        except DirectoryProtocolError as exc:
            _log.warning("passed over node %.300s of directory %s: %s", path, self._url.name, exc)
            return
        is_in_place = record.service == parts[2] if parts[1] == "records" else parts[2] in sources_of(record)
        is_in_place = is_in_place and (record.namespace, record.instance) == (parts[0], name)
        if is_in_place and self._believes(record, self._url.name):
            held = self._records.setdefault(record.instance, {})
            held[path] = record
            if all(other.rank <= record.rank for other in held.values()):
                changes.append(record)

    def _note_came(self, path: str, note: Note, changes: list[Change]) -> None:
        nodes = self._notes.setdefault((note.namespace, note.key), {})
        nodes[path] = note
        if all(other.rank <= note.rank for other in nodes.values()):
            changes.append(note)
        if len(nodes) > 1 and not self._written.isdisjoint(nodes):
            self._tidy(nodes)

    def _left(self, path: str, changes: list[Change]) -> None:
        if self._parts(path)[0] == REVOKED:
            if self._lists.pop(path, None) is not None:
                changes.append(FoundList(b""))
            return
        parts = [unquote(part) for part in self._parts(path)]
        name = parts[-1].rpartition(";")[0]
        if parts[1] == "notes":
            self._written.discard(path)
            self._notes.get((parts[0], name), {}).pop(path, None)
            return
        held = self._records.get(name, {})
        if held.pop(path, None) is not None and not held:
            del self._records[name]
            changes.append(Gone(name))

    def _tidy(self, nodes: dict[str, Note]) -> None:
        """Two wrote a note at once: deletes the one that is replaced, and waits for no answer."""
        best = max(nodes.values(), key=_rank)
        for path, note in list(nodes.items()):
            if note is not best:
                self._client.delete_async(path)

    # --- paths ---

    def _namespace_path(self, namespace: str) -> str:
        return f"{self._base}/{_name(namespace)}"

    def _parts(self, path: str) -> list[str]:
        """The parts below the prefix."""
        return path[len(self._base) + 1 :].split("/") if path != self._base else []


def _name(text: str) -> str:
    """One part of a path. ZooKeeper has no nodes with the names `.` and `..`."""
    return "%2E" * len(text) if text in (".", "..") else quote(text, safe="")


def _rank(item: Record | Note) -> Any:
    return item.rank


def _addresses(server: tuple[str, int], name: str) -> list[str]:
    """The addresses of a host, as kazoo wants them."""
    try:
        found = getaddrinfo(*server, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise EngineError(f"{name} cannot be reached: {getattr(exc, 'strerror', None) or exc}") from exc
    hosts = dict.fromkeys(str(item[4][0]) for item in found)
    return [f"[{host}]:{server[1]}" if ":" in host else f"{host}:{server[1]}" for host in hosts][:MAX_ADDRESSES]
