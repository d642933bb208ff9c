"""Keeps the keys of a running process up to date, with their folder and with lists of revoked certificates from other nodes.

Internal.

Rule 1: an unusable file changes nothing. The former keys stay valid, and one line in the log says why.
Rule 2: a list of revoked certificates is believed if a trusted authority signed it, and only if it is newer.
Rule 3: the private keys never change while a process runs.

`Keys.generation` grows with each change, so that a remembered verdict can be recognized as old.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from discovery.exceptions import SecurityError
from discovery.native import Log, native_lock
from discovery.security import files
from discovery.security.keys import AUTHORITIES, NODE_CERTIFICATE, REGISTRY, REVOKED, REVOKED_LINE, Keys, read_trust
from discovery.security.revocations import Revocations
from discovery.security.verdicts import Trust, short

_log = Log(__name__)

#: The files that may change while a process runs.
FILES = (NODE_CERTIFICATE, AUTHORITIES, REGISTRY, REVOKED)
_lock = native_lock()


class KeysFolderWatch:
    """Reads the folder of `keys` again whenever a file of it has changed."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._seen: object = None

    def look(self) -> bool:
        """Reads changed files; to be called from time to time. Returns whether the keys have changed."""
        path = Path(self._keys.folder)
        found = [files.fingerprint(path / name) for name in FILES]
        if found == self._seen:
            return False
        self._seen = found
        before = self._keys.generation
        try:
            # First: a node whose own certificate is revoked must learn of the others, too.
            trust = read_trust(path)
            with _lock:
                _trust(self._keys, trust.authorities, trust.revoked.values())
            fresh = Keys.read(path, self._clock)
            if (fresh.pair, fresh.signing) != (self._keys.pair, self._keys.signing):
                raise SecurityError(f"{path} has another private key than before; restart the process to use it")
        except SecurityError as exc:
            _log.warning("the changed keys in %s are not used, and the former keys stay: %s", path, exc)
            return self._keys.generation != before
        with _lock:
            self._renew(fresh)
        return self._keys.generation != before

    def _renew(self, fresh: Keys) -> None:
        keys = self._keys
        if (fresh.signed, fresh.registry_key) != (keys.signed, keys.registry_key):
            if fresh.signed != keys.signed:
                _log.info("the certificate %s in %s takes the place of the former one", fresh.certificate.serial, keys.folder)
            keys.signed, keys.certificate, keys.registry_key = fresh.signed, fresh.certificate, fresh.registry_key
            keys.generation += 1


def learn(keys: Keys, lists: Iterable[bytes]) -> bool:
    """Take the newer ones of these lists of revoked certificates, and write them to the folder. Returns whether there were any.

    SecurityError for anything that is not such a list. A list of an authority that is not trusted here is ignored.
    """
    read = [Revocations.from_bytes(signed) for signed in lists]
    with _lock:
        before = keys.generation
        _trust(keys, keys.trust.authorities, read)
        if keys.generation == before:
            return False
        lines = [(REVOKED_LINE, one.signed) for one in keys.trust.revoked.values()]
        try:
            # Written to disk, so that the next start knows the lists before it has a directory.
            files.write(Path(keys.folder) / REVOKED, "certificates that are void", lines)
        except SecurityError as exc:
            _log.info("new revocations are only known until this process ends: %s", exc)
    return True


def lists_of(keys: Keys) -> list[bytes]:
    """The valid lists of revoked certificates, in the form in which they are sent to other nodes."""
    return [one.signed for one in keys.trust.revoked.values() if one.signed]


def _trust(keys: Keys, authorities: frozenset[bytes], lists: Iterable[Revocations]) -> None:
    revoked = {one.authority: one for one in keys.trust.revoked.values() if one.authority in authorities}
    for one in lists:
        held = revoked.get(one.authority)
        if one.authority in authorities and (held is None or one.number > held.number):
            revoked[one.authority] = one
    if authorities != keys.trust.authorities or revoked != keys.trust.revoked:
        if authorities != keys.trust.authorities:
            _log.info("trusted authorities by %s: %s", keys.folder, ", ".join(sorted(map(short, authorities))))
        keys.trust = Trust(authorities, revoked)
        keys.generation += 1
