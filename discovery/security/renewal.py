"""Keeps the keys of a running process up to date, with their folder and with what other nodes tell.

Other nodes tell lists of revoked certificates, and certificates of registries.

Internal.

Rule 1: an unusable file changes nothing. The former keys stay valid, and one line in the log says why.
Rule 2: a list of revoked certificates is believed if a trusted authority signed it, and only if it is newer.
Rule 3: a certificate of a registry is believed if a trusted authority signed it. It stays known until it ends or is revoked.
Rule 4: the private keys never change while a process runs.

`Keys.generation` grows with each change, so that a remembered verdict can be recognized as old.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from discovery.exceptions import SecurityError
from discovery.native import Log, native_lock
from discovery.security import files
from discovery.security.keys import (
    AUTHORITIES,
    CERTIFICATE_LINE,
    NODE_CERTIFICATE,
    REGISTRY,
    REVOKED,
    REVOKED_LINE,
    Keys,
    read_registries,
    read_trust,
)
from discovery.security.registries import merged, usable
from discovery.security.revocations import Revocations, newest
from discovery.security.verdicts import Trust, short

_log = Log(__name__)

#: The files that may change while a process runs.
FILES = (NODE_CERTIFICATE, AUTHORITIES, REGISTRY, REVOKED)
#: The last days of a certificate, in which the log says when it ends: at the start of a process, and then once a day.
RENEW_WITHIN = 30.0
DAY = 86_400.0
_lock = native_lock()


class KeysFolderWatch:
    """Reads the folder of `keys` again whenever a file of it has changed."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._seen: object = None
        self._warn_at = clock() + DAY

    def look(self) -> bool:
        """Reads changed files; to be called from time to time. Returns whether the keys have changed."""
        now = self._clock()
        if now >= self._warn_at:
            self._warn_at = now + DAY
            warn_of_end(self._keys, now)
        return self._read_changes()

    def _read_changes(self) -> bool:
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
        registries = merged((*keys.registries, *fresh.registries), keys.trust.authorities, self._clock())
        if (fresh.signed, registries) != (keys.signed, keys.registries):
            if fresh.signed != keys.signed:
                _log.info("the certificate %s in %s takes the place of the former one", fresh.certificate.serial, keys.folder)
            keys.signed, keys.certificate, keys.registries = fresh.signed, fresh.certificate, registries
            keys.generation += 1


def warn_of_end(keys: Keys, now: float) -> None:
    """Log a warning if the certificate ends soon, or has ended. `now` in seconds since 1970."""
    left = keys.days_left(now)
    if left < RENEW_WITHIN:
        when = f"ends in {left:.1f} days" if left > 0 else f"ended {-left:.1f} days ago"
        name = keys.certificate.name
        _log.warning("the certificate of %s in %s %s: `zmqservices keys renew %s` makes another", name, keys.folder, when, name)


def learn(keys: Keys, lists: Iterable[bytes], registries: Iterable[bytes] = ()) -> bool:
    """Take the newer ones of these lists of revoked certificates, and of these certificates of registries, and write them to
    the folder. Returns whether there were any.

    SecurityError for anything else. What an authority signed that is not trusted here is ignored.
    """
    held = {*(one.signed for one in keys.trust.revoked.values()), *(one.signed for one in keys.registries)}
    read = [Revocations.from_bytes(signed) for signed in lists if signed not in held]
    now = time.time()
    found = usable((signed for signed in registries if signed not in held), keys.trust, now)[0]
    with _lock:
        before, revoked = keys.generation, keys.trust.revoked
        _trust(keys, keys.trust.authorities, read)
        together = merged((*keys.registries, *found), keys.trust.authorities, now)
        if found and together != keys.registries:
            keys.registries = together
            keys.generation += 1
        if keys.generation == before:
            return False
        # Written to disk, so that the next start knows them before it has a directory.
        if keys.trust.revoked != revoked:
            _write_lists(keys)
        if found:
            _write_registries(keys, now)
    return True


def _write_lists(keys: Keys) -> None:
    path = Path(keys.folder)
    try:
        # An operator may have copied a newer list there, which this process has not read yet.
        trust = read_trust(path)
    except SecurityError:
        trust = keys.trust
    lists = newest(keys.trust.authorities, (*keys.trust.revoked.values(), *trust.revoked.values()))
    _write(path / REVOKED, "certificates that are void", [(REVOKED_LINE, one.signed) for one in lists.values()])


def _write_registries(keys: Keys, now: float) -> None:
    path = Path(keys.folder)
    try:
        there = read_registries(path, keys.trust, now)[0]
    except SecurityError:
        there = []
    together = merged((*keys.registries, *there), keys.trust.authorities, now)
    lines = [(CERTIFICATE_LINE, one.signed) for one in together if not keys.refusal_of(one.signed)]
    if lines:
        _write(path / REGISTRY, "certificates of the registries", lines)


def _write(path: Path, comment: str, lines: list[tuple[str, bytes]]) -> None:
    try:
        files.write(path, comment, lines)
    except SecurityError as exc:
        _log.info("the new %s are only known until this process ends: %s", comment, exc)


def registries_of(keys: Keys) -> list[bytes]:
    """The certificates of registries that hold now, in the form in which they are sent to other nodes."""
    return [one.signed for one in keys.registries if not keys.refusal_of(one.signed)]


def lists_of(keys: Keys) -> list[bytes]:
    """The valid lists of revoked certificates, in the form in which they are sent to other nodes."""
    return [one.signed for one in keys.trust.revoked.values() if one.signed]


def _trust(keys: Keys, authorities: frozenset[bytes], lists: Iterable[Revocations]) -> None:
    revoked = newest(authorities, (*keys.trust.revoked.values(), *lists))
    if authorities != keys.trust.authorities or revoked != keys.trust.revoked:
        if authorities != keys.trust.authorities:
            _log.info("trusted authorities by %s: %s", keys.folder, ", ".join(sorted(map(short, authorities))))
        keys.trust = Trust(authorities, revoked)
        keys.generation += 1
