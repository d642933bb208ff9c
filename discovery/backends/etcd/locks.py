"""Takes and releases locks in etcd."""

from __future__ import annotations

from discovery.backends.etcd.member import EtcdMember
from discovery.backends.etcd.ranges import TXN
from discovery.backends.etcd.writes import create_lock, decode_write, delete_lock


def take(member: EtcdMember, key: str, owner: str, lease: int) -> tuple[int | None, int]:
    """Creates the key of a lock, or puts our own key under `lease` if it is under an older one; the token then stays.

    Returns the fencing token, or None while another process holds the lock, and the revision of the answer.
    """
    revision = 0
    while True:
        answer = decode_write(member.ask(TXN, create_lock(key, owner, lease, revision)))
        held = answer.held
        if answer.has_succeeded:
            return revision or answer.revision, answer.revision
        if held is None:
            revision = 0  # Another process has deleted it meanwhile.
        elif held.value != owner.encode():
            return None, answer.revision
        elif held.lease == lease:
            return held.created, answer.revision
        else:
            revision = held.created


def release(member: EtcdMember, key: str, owner: str) -> None:
    """Deletes the key of a lock if `owner` holds it."""
    member.ask(TXN, delete_lock(key, owner))
