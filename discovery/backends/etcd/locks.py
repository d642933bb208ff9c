"""Takes and releases locks in etcd."""

from __future__ import annotations

from discovery.backends.etcd.gateway import EtcdGateway
from discovery.backends.etcd.requests import create_lock, delete_lock, encoded, held_in


def take(gateway: EtcdGateway, key: str, owner: str, lease: str) -> tuple[int | None, int]:
    """Creates the key of a lock, or puts our own key under `lease` if it is under an older one; the token then stays.

    Returns the fencing token, or None while another process holds the lock, and the revision of the answer.
    """
    revision = "0"
    while True:
        answer = gateway.ask("/v3/kv/txn", create_lock(key, owner, lease, revision))
        now = int(answer["header"]["revision"])
        if answer.get("succeeded"):
            return int(revision) or now, now
        held = held_in(answer)
        if held is None:
            revision = "0"  # Another process has deleted it meanwhile.
        elif held.get("value") != encoded(owner.encode()):
            return None, now
        elif held.get("lease") == lease:
            return int(held["create_revision"]), now
        else:
            revision = held["create_revision"]


def release(gateway: EtcdGateway, key: str, owner: str) -> None:
    """Deletes the key of a lock if `owner` holds it."""
    gateway.ask("/v3/kv/txn", delete_lock(key, owner))
