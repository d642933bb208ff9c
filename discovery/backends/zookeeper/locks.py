"""Takes and releases locks in ZooKeeper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from discovery.backends.zookeeper.connection import ZooKeeperConnection
from discovery.backends.zookeeper.writing import ATTEMPTS, delete, make_parents
from discovery.client.locks import TRUSTED, EngineLock, Held, lock_time


def take(connection: ZooKeeperConnection, path: str, lock: EngineLock, on_change: Callable[[Any], None]) -> Held | None:
    """Creates the node of a lock if it is not there. A node of our own from a former session is created again.

    None while another process holds the lock; `on_change` is then called when its node changes.
    """
    for _ in range(ATTEMPTS):
        asked = lock_time()
        try:
            token = _take(connection, path, lock.owner.encode(), on_change)
        except connection.errors.NoNodeError:
            make_parents(connection, path)  # Or the node has just been deleted.
            continue
        return None if token is None else Held(token, asked + connection.granted() * TRUSTED)
    return None


def _take(connection: ZooKeeperConnection, path: str, owner: bytes, on_change: Callable[[Any], None]) -> int | None:
    client, errors = connection.client, connection.errors
    try:
        _, made = connection.get(client.create_async(path, owner, acl=connection.acl, ephemeral=True, include_data=True))
        return int(made.czxid)
    except errors.NodeExistsError:
        value, stat = connection.get(client.get_async(path, on_change))
    if value != owner:
        return None
    if stat.ephemeralOwner == connection.client_id[0]:
        return int(stat.czxid)
    delete(connection, [path])
    raise errors.NoNodeError


def release(connection: ZooKeeperConnection, path: str, lock: EngineLock) -> None:
    """Deletes the node of a lock if it is ours."""
    client, errors = connection.client, connection.errors
    try:
        value, stat = connection.get(client.get_async(path))
        if value == lock.owner.encode():
            connection.get(client.delete_async(path, stat.version))
    except (errors.NoNodeError, errors.BadVersionError):
        pass
