"""The session of a directory's client with one member of ZooKeeper."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from discovery import protocol
from discovery.backend import Believes, everything
from discovery.backends.opening import Server, open_first, servers_in_turn
from discovery.backends.stream import name_of
from discovery.backends.urls import EngineUrl
from discovery.backends.zookeeper import locks
from discovery.backends.zookeeper.connection import ClientId, ZooKeeperConnection, addresses_of
from discovery.backends.zookeeper.paths import ZooKeeperPaths
from discovery.backends.zookeeper.reading import NodeReader
from discovery.backends.zookeeper.tree import NodeTree
from discovery.backends.zookeeper.writing import delete, make, make_parents
from discovery.client.engine_session import Change, Contents, Vacant
from discovery.client.locks import EngineLock, Held
from discovery.client.patience import Patience, goes_on
from discovery.exceptions import EngineError, EngineOverdueError, EngineRefusal
from discovery.interest import EVERYTHING, Interest
from discovery.model import Note, Record
from discovery.native import Log
from discovery.security.revocations import Revocations

_log = Log(__name__)

#: The longest time in seconds between two calls of `keep`.
KEEP_EVERY = 2.0
#: Outdated notes that a session deletes when it opens.
MAX_SWEPT = 100
#: Attempts to write a list at a path where other processes write as well.
LIST_ATTEMPTS = 5


class ResumableSession:
    """ZooKeeper's session with this process. It outlives connections."""

    def __init__(self) -> None:
        self.client_id: ClientId | None = None
        #: The nodes of each record of this process that were created in this session.
        self.own: dict[str, set[str]] = {}


class ZooKeeperSession:
    """An `EngineSession` with one member: the first one that answers. Each attempt begins with another member.

    `access`: who may read and write the nodes, see `factory`. `seconds`: the timeout of ZooKeeper's session. `resumable`: that
    session, which later attempts take up. `patience`: with which this client waits in all its attempts. `is_closed`: whether the
    cluster has SECURITY.
    """

    def __init__(
        self,
        url: EngineUrl,
        access: str,
        seconds: float,
        namespace: str | None,
        resumable: ResumableSession,
        patience: Patience,
        believes: Believes = everything,
        is_closed: bool = False,
    ) -> None:
        self._url = url
        self._patience = patience
        self._access = access
        self._seconds = seconds
        self._believes = believes
        self._namespace = namespace
        self._resumable = resumable
        #: Only for the thread that writes.
        self._own = resumable.own
        self._paths = ZooKeeperPaths(url.prefix, namespace, is_closed)
        self._servers = servers_in_turn(url.servers)
        self._open_connection: ZooKeeperConnection | None = None
        self._tree = NodeTree(self._paths, url.name, believes)
        self._reader = NodeReader(self._paths, self._tree)

    # --- connecting ---

    def open(self, interest: Interest) -> Contents:
        """Connects to a member that answers, and reads what is of interest; everything for a client of all namespaces."""
        wanted = interest if self._namespace is not None else EVERYTHING
        return open_first(self._servers, lambda server: self._open_at(server, wanted))

    def _open_at(self, server: Server, interest: Interest) -> Contents:
        try:
            self._connect(server)
            return self._read_all(interest)
        except EngineError:
            self._give_up()
            raise

    def _connect(self, server: Server) -> None:
        """Takes ZooKeeper's session up, or begins one."""
        name = name_of(server)
        errors: list[str] = []
        kind = EngineError
        for address in addresses_of(server, name):
            try:
                if not self._connect_to(name, address, server[0]):
                    _log.info("the session with %s at %s has expired; a new one begins", self._url.name, name)
                    self._resumable.client_id = None
                    self._connect_to(name, address, server[0])
                self._resumable.client_id = self._connection.client_id
                return
            except EngineError as exc:
                errors.append(f"{name} {exc}")
                kind = EngineOverdueError if isinstance(exc, EngineOverdueError) else kind
                self._give_up()
        raise kind("; ".join(dict.fromkeys(errors)))

    def _connect_to(self, name: str, address: str, host: str) -> bool:
        """False if ZooKeeper's session has expired."""
        self._give_up()
        if self._resumable.client_id is None:
            self._own.clear()
        self._tree = NodeTree(self._paths, self._url.name, self._believes)
        self._reader = reader = NodeReader(self._paths, self._tree)
        self._open_connection = ZooKeeperConnection(
            name, address, host, self._url, self._access, self._seconds, self._resumable.client_id,
            self._patience, lambda: reader.tell(None),
        )  # fmt: skip
        return self._open_connection.open()

    def _give_up(self) -> None:
        """Ends the connection and leaves ZooKeeper's session for the next one."""
        if self._open_connection is not None:
            self._open_connection.has_failed = True
            self._open_connection.close(is_for_good=False)

    @property
    def _connection(self) -> ZooKeeperConnection:
        assert self._open_connection is not None, "`open` comes first"
        return self._open_connection

    # --- reading ---

    def _read_all(self, interest: Interest) -> Contents:
        connection, base = self._connection, self._paths.base
        try:
            for path in self._paths.lasting():
                make_parents(connection, f"{path}/x")
            connection.get(connection.client.sync_async(base))
            stat = connection.get(connection.client.exists_async(base))
        except EngineRefusal as exc:
            raise EngineError(str(exc)) from exc
        except connection.errors.ZookeeperError as exc:
            raise connection.read_error(exc, base) from exc
        wanted = set() if interest is None else self._paths.folders(interest)
        self._reader.read(connection, self._paths.roots(interest), wanted)
        self._sweep()
        # An ensemble that has lost its data has another node there, even if it has the same number in its history.
        cluster = f"{stat.czxid:x}-{stat.ctime:x}" if stat else ""
        return Contents(cluster, self._tree.records(), self._tree.notes(), interest, self._tree.lists())

    def _sweep(self) -> None:
        """Deletes notes that are past their ttl, or replaced."""
        try:
            delete(self._connection, self._tree.outdated(time.time())[:MAX_SWEPT])
        except self._connection.errors.NoAuthError:
            pass  # This user may only read; other clients delete the notes.

    def extend(self, keys: frozenset[str]) -> list[Record]:
        """Reads and watches the nodes of these services and sources as well."""
        return self._reader.extend(self._paths.folders(keys))

    def watch(self) -> Iterator[Iterable[Change]]:
        """All changes after what was read. They are read while they are iterated, and so never beside `extend`."""
        while True:
            yield self._reader.wait()

    # --- writing ---

    def put_record(self, record: Record) -> None:
        """Creates the nodes of a record, and deletes those of its former versions."""
        paths = self._paths.of_record(record)
        value = protocol.pack(record.to_dict())
        with self._connection.refusals(paths[0]):
            self._own[record.instance] = self._own.get(record.instance, set()) | set(paths)
            for path in paths:
                make(self._connection, path, value, is_ephemeral=True)
            delete(self._connection, self._own[record.instance] - set(paths))
        self._own[record.instance] = set(paths)

    def delete_record(self, namespace: str, instance: str) -> None:
        """Deletes the nodes of a record."""
        with self._connection.refusals(self._paths.base):
            delete(self._connection, {*self._own.get(instance, ()), *self._tree.nodes_of(instance)})
        # Only after the answers: if the connection is lost before, the next attempt must still know what to delete.
        self._own.pop(instance, None)

    def put_note(self, note: Note) -> None:
        """Creates the node of a note, unless a note of higher rank is known, and deletes the nodes that it replaces."""
        held = self._tree.notes_under(note.namespace, note.key)
        if any(other.rank >= note.rank for other in held.values()):
            return
        value = protocol.pack(note.to_list())
        path = self._paths.of_note(note, value)
        with self._connection.refusals(path):
            self._tree.written.add(path)
            make(self._connection, path, value, is_ephemeral=False)
            delete(self._connection, held)

    def put_revoked(self, revoked: Revocations) -> None:
        """Creates the node of a list, unless a newer list of its authority is known, and deletes the nodes that it replaces."""
        held = self._tree.lists_of(revoked.authority)
        staying = {path for path, signed in held.items() if revoked.gives_way_to(signed)}
        connection = self._connection
        with connection.refusals(self._paths.revoked):
            for attempt in range(0 if staying else LIST_ATTEMPTS):
                # Another path after another process put something else at the former one: clients do not read a node again.
                path = self._paths.of_list(revoked, attempt)
                make(connection, path, revoked.signed, is_ephemeral=False)
                if connection.get(connection.client.get_async(path))[0] == revoked.signed:
                    break
            delete(connection, held.keys() - staying)

    def take_lock(self, lock: EngineLock, seconds: float) -> Held | None:
        """Creates the node of a lock, unless another process holds it: then the node is watched."""
        path = self._paths.of_lock(lock.namespace, lock.name)
        with self._connection.refusals(path):
            return locks.take(self._connection, path, lock, self._lock_changed)

    def _lock_changed(self, event: Any) -> None:
        if event.path is not None:
            self._reader.tell(Vacant())

    def release_lock(self, lock: EngineLock) -> None:
        """Deletes the node of a lock if it is ours."""
        path = self._paths.of_lock(lock.namespace, lock.name)
        with self._connection.refusals(path):
            locks.release(self._connection, path, lock)

    # --- ZooKeeper's session ---

    def keep(self) -> list[str]:
        """Checks that the server answers. kazoo renews ZooKeeper's session by itself."""
        self._connection.get(self._connection.client.exists_async(self._paths.base))
        return []

    def keep_every(self) -> float:
        """Seconds: a third of the timeout that the server granted, at most KEEP_EVERY."""
        return min(KEEP_EVERY, self._connection.granted() / 3)

    def goes_on(self, overdue: int) -> bool:
        """Whether the session goes on after `keep` was overdue. kazoo ends the connection before ZooKeeper's session runs out."""
        does = goes_on(overdue, 0.0, len(self._servers))
        self._connection.has_failed = not does
        return does

    def close(self) -> None:
        """Ends ZooKeeper's session, unless the connection has failed: then the next attempt takes the session up."""
        connection = self._open_connection
        if connection is not None:
            is_for_good = not connection.has_failed
            if is_for_good:
                self._resumable.client_id = None
            connection.close(is_for_good)
        self._reader.tell(None)
