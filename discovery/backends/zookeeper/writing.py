"""Creates and deletes ZooKeeper's nodes."""

from __future__ import annotations

from collections.abc import Iterable

from discovery.backends.zookeeper.connection import ZooKeeperConnection
from discovery.exceptions import EngineRefusal

#: Attempts to create a node that other processes create and delete meanwhile.
ATTEMPTS = 5


def make_parents(connection: ZooKeeperConnection, path: str) -> None:
    """Creates the persistent nodes above `path`. EngineRefusal if that is forbidden."""
    client, errors = connection.client, connection.errors
    parts = path.split("/")[1:-1]
    for depth in range(1, len(parts) + 1):
        parent = "/" + "/".join(parts[:depth])
        try:
            # Looked up first: a user who may not create nodes here is refused even if the node is there already.
            if connection.get(client.exists_async(parent)) is None:
                connection.get(client.create_async(parent, b"", acl=connection.acl))
        except errors.NodeExistsError:
            pass
        except errors.NoAuthError as exc:
            raise EngineRefusal(connection.forbidden("make", parent)) from exc


def make(connection: ZooKeeperConnection, path: str, value: bytes, is_ephemeral: bool) -> None:
    """Creates a node, and the nodes above it.

    A persistent node that is there already has the same value. An ephemeral one may belong to an old session: it is replaced.
    """
    client, errors = connection.client, connection.errors
    for _ in range(ATTEMPTS):
        try:
            connection.get(client.create_async(path, value, acl=connection.acl, ephemeral=is_ephemeral))
            return
        except errors.NoNodeError:
            make_parents(connection, path)
        except errors.NodeExistsError:
            stat = connection.get(client.exists_async(path))
            if stat is not None and not is_ephemeral:
                return
            if stat is not None and stat.ephemeralOwner == connection.client_id[0]:
                # The same version of a record: it was signed again.
                connection.get(client.set_async(path, value))
                return
            delete(connection, [path])
    raise EngineRefusal(f"another client creates and deletes {path!r} all the time")


def delete(connection: ZooKeeperConnection, paths: Iterable[str]) -> None:
    """Deletes nodes. A node that is not there is ignored."""
    for result in [connection.client.delete_async(path) for path in paths]:
        try:
            connection.get(result)
        except connection.errors.NoNodeError:
            pass
