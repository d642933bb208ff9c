"""Reads ZooKeeper's nodes, watches them, and reads again what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from discovery.backends.zookeeper.connection import ZooKeeperConnection
from discovery.backends.zookeeper.paths import ZooKeeperPaths
from discovery.backends.zookeeper.tree import NodeTree
from discovery.client.engine_session import Change, Vacant
from discovery.exceptions import EngineError
from discovery.model import Record
from discovery.native import original

_SimpleQueue: Any = original("queue", "SimpleQueue")

#: Requests in flight at once.
PIPELINE = 500
#: Rounds of reading after which changes are handed on, although the directory goes on changing.
MAX_ROUNDS = 50
#: Put among the events: changes wait in `_later`.
_LATER = object()


class NodeReader:
    """Reads the nodes of one connection into a `NodeTree`. Its methods never run beside each other, except `tell`."""

    def __init__(self, paths: ZooKeeperPaths, tree: NodeTree) -> None:
        self._paths = paths
        self._tree = tree
        self._connection: ZooKeeperConnection | None = None
        #: Paths whose children have changed, a Vacant for a lock that has changed, or None when the connection is over.
        self._events: Any = _SimpleQueue()
        #: The children of every path that is watched.
        self._children: dict[str, frozenset[str]] = {}
        #: The folders of interest, some of which do not exist yet; empty if everything is of interest.
        self._wanted: set[str] = set()
        #: Paths that have changed and are about to be read.
        self._taken: set[str] = set()
        #: Changes that `extend` has found besides the records that it was asked for.
        self._later: list[Change] = []
        self._is_vacant = False

    def tell(self, event: object) -> None:
        """Puts an event: a path, a Vacant, or None when the connection is over. Callable from any thread."""
        self._events.put(event)

    def read(self, connection: ZooKeeperConnection, roots: set[str], wanted: set[str]) -> None:
        """Reads everything below `roots`. `wanted`: those of them that may not exist yet."""
        self._connection = connection
        self._wanted = set(wanted)
        self._settle(roots)

    def extend(self, folders: set[str]) -> list[Record]:
        """Reads these folders, and everything that has changed: some of these changes may have come before."""
        self._wanted |= folders
        changes = self._settle(folders | self._take_paths())
        self._later = [change for change in changes if not isinstance(change, Record)]
        self._events.put(_LATER)
        return [change for change in changes if isinstance(change, Record)]

    def wait(self) -> Iterator[Change]:
        """Waits until something has changed. The changes are read while the result is iterated."""
        self._taken = self._taken | self._changed_paths(is_patient=True)
        return self._changes()

    def _changes(self) -> Iterator[Change]:
        later, self._later = self._later, []
        yield from later
        yield from self._settle(self._take_paths())
        if self._is_vacant:
            self._is_vacant = False
            yield Vacant()

    def _take_paths(self) -> set[str]:
        taken, self._taken = self._taken, set()
        return taken

    def _changed_paths(self, is_patient: bool) -> set[str]:
        """The paths that have changed. Waits for the first one if `is_patient`. EngineError when the connection is over."""
        assert self._connection is not None
        paths: set[str] = set()
        while is_patient or not self._events.empty():
            event = self._events.get()
            if event is None:
                raise self._connection.failed(self._connection.why_it_ended())
            if isinstance(event, Vacant):
                self._is_vacant = True
            elif event is not _LATER:
                paths.add(event)
            is_patient = False
        return paths

    def _settle(self, paths: set[str]) -> list[Change]:
        """Reads these paths, and everything that changes meanwhile."""
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
        """Lists the children of these paths, and of the folders that are found there. Then reads the new nodes."""
        assert self._connection is not None
        client = self._connection.client
        fetched: list[str] = []
        left: list[str] = []
        while paths:
            found: list[str] = []
            for path, names in self._ask(sorted(paths), lambda path: client.get_children_async(path, self._on_event)):
                before = self._children.pop(path, frozenset())
                if names is None:
                    self._check_missing(path)
                    now: frozenset[str] = frozenset()
                    if path in self._wanted:
                        found += self._made_since(path)
                else:
                    now = self._children[path] = frozenset(names)
                if self._paths.is_folder(path):
                    children = [f"{path}/{name}" for name in now]
                    found += [child for child in children if self._paths.is_read(child) and child not in self._children]
                else:
                    left += [f"{path}/{name}" for name in before - now]
                    fetched += [f"{path}/{name}" for name in now - before]
            paths = found
        for path, answer in self._ask(fetched, client.get_async):
            if answer is not None:
                self._came(path, answer[0], changes)
        # Deleted nodes come last: one of the two versions of a record is there all the time.
        changes += [change for path in left if (change := self._tree.left(path)) is not None]

    def _came(self, path: str, value: bytes, changes: list[Change]) -> None:
        change = self._tree.came(path, value)
        if change is not None:
            changes.append(change)
        assert self._connection is not None
        for replaced in self._tree.replaced_beside(path):
            self._connection.client.delete_async(replaced)  # The answer is ignored.

    def _made_since(self, path: str) -> list[str]:
        """Has the server report when this node is created. Returns the node if that has happened already."""
        assert self._connection is not None
        client = self._connection.client
        stats = self._ask([path], lambda path: client.exists_async(path, self._on_event))
        return [path for path, stat in stats if stat is not None]

    def _on_event(self, event: Any) -> None:
        """Called by kazoo for each watch."""
        if event.path is not None:
            self._events.put(event.path)

    def _ask(self, paths: list[str], ask: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
        """The answer for each path; None for a node that does not exist."""
        connection = self._connection
        assert connection is not None
        for start in range(0, len(paths), PIPELINE):
            for path, result in [(path, ask(path)) for path in paths[start : start + PIPELINE]]:
                try:
                    yield path, connection.get(result)
                except connection.errors.NoNodeError:
                    yield path, None
                except connection.errors.ZookeeperError as exc:
                    raise connection.read_error(exc, path) from exc

    def _check_missing(self, path: str) -> None:
        # A deleted node has no watch, so only the next attempt can create it again and read on.
        if self._paths.is_needed(path):
            assert self._connection is not None
            self._connection.has_failed = True
            raise EngineError(f"another client deleted {path!r} at {self._connection.name}; it is created again")
