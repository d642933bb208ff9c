"""An authority: creates the folders of nodes, and revokes their certificates.

Internal. `discovery.security.authority_folder` describes the folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from discovery.exceptions import SecurityError
from discovery.security import files, signing
from discovery.security.authority_folder import AUTHORITY, AUTHORITY_KEY, ISSUED, AuthorityFolder, lines_of
from discovery.security.certificates import PERMISSIONS, Certificate, SignedCertificate, issue
from discovery.security.keys import (
    AUTHORITIES,
    AUTHORITY_LINE,
    CERTIFICATE_LINE,
    NODE_CERTIFICATE,
    NODE_KEY,
    NODE_SIGNING,
    PRIVATE_KEY_LINE,
    REGISTRY,
    REVOKED,
    REVOKED_LINE,
)
from discovery.security.registries import merged, usable
from discovery.security.revocations import Revocations
from discovery.security.signing import KEY_LENGTH, KeyPair
from discovery.security.verdicts import SKEW, Trust

#: Days for which a certificate is valid.
DEFAULT_DAYS = 365
DAY = 86_400.0
#: Names that the folder uses itself.
_TAKEN = (AUTHORITY_KEY, AUTHORITY, ISSUED, REVOKED, REGISTRY)


class Authority(AuthorityFolder):
    """An authority in its folder. `Authority.create` makes a new one. Everything raises SecurityError, which names the file."""

    def __init__(self, folder: str | Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(folder)
        self._clock = clock
        if not (self.folder / AUTHORITY_KEY).exists():
            raise SecurityError(
                f"{str(folder)!r} has no {AUTHORITY_KEY}; if it is lost, `zmqservices keys init NEW --succeeds {folder}` makes "
                "another authority for the same nodes"
            )
        key = files.read_private(self.folder / AUTHORITY_KEY, PRIVATE_KEY_LINE)
        if len(key) != KEY_LENGTH:
            raise SecurityError(f"{self.folder / AUTHORITY_KEY} has a key that is not {KEY_LENGTH} bytes long")
        self._keys = signing.signing_keys(key)
        if self._keys.public != self.public_key:
            raise SecurityError(f"{self.folder / AUTHORITY_KEY} is not the key of {self.folder / AUTHORITY}")

    @classmethod
    def create(
        cls,
        folder: str | Path,
        days: float = DEFAULT_DAYS,
        clock: Callable[[], float] = time.time,
        former: str | Path | None = None,
    ) -> Authority:
        """A new authority in a folder that holds none, and the folder of its registries.

        `former`: the folder of an authority that it replaces; its private key is not needed. The nodes and registries of that one
        keep their keys. They get folders with new certificates, and trust both authorities.
        """
        path = Path(folder)
        predecessor = None if former is None else AuthorityFolder(former)
        if (path / AUTHORITY_KEY).exists():
            raise SecurityError(f"{str(folder)!r} has an authority already; choose another folder, or move that one away")
        keys = signing.new_signing_keys()
        _make_folder(path)
        _make_folder(path / ISSUED)
        files.write(path / AUTHORITY, "public key of the authority", [(AUTHORITY_LINE, keys.public)])
        files.write(
            path / AUTHORITY_KEY, "private key of the authority; show it to nobody", [(PRIVATE_KEY_LINE, keys.private)], True
        )
        authority = cls(path, clock)
        if predecessor is None:
            authority.issue(REGISTRY, days=days)
        else:
            authority._succeed(predecessor, days)
        return authority

    def issue(
        self,
        name: str,
        permissions: dict[str, tuple[str, ...]] | None = None,
        days: float = DEFAULT_DAYS,
        is_registry: bool = False,
    ) -> Path:
        """Make a key and a certificate for a new node; returns its folder.

        `is_registry`: it may keep the directory. Registries may share a folder, usually that of the name `registry`.
        """
        if name == REGISTRY:
            is_registry = True
        else:
            _check_name(name)
        folder = self.folder / name
        if (self.folder / ISSUED / name).exists():
            raise SecurityError(
                f"{name!r} has a certificate already: `keys renew {name}` makes it last longer; `keys revoke {name}` voids it"
            )
        pair, signer = signing.new_node_keys(), signing.new_signing_keys()
        starts, ends = self._span(days)
        certificate = Certificate(
            name, pair.public, _new_serial(), starts, ends, is_registry=is_registry, signing_key=signer.public,
            **(permissions or {}),
        )  # fmt: skip
        signed = issue(certificate, self._keys)
        _make_folder(folder)
        files.write(folder / NODE_KEY, f"private key of {name}; show it to nobody", [(PRIVATE_KEY_LINE, pair.private)], True)
        _write_signing_key(folder, name, signer)
        self._publish(certificate, signed)
        self._write_trust(folder)
        return folder

    def renew(self, name: str, days: float = DEFAULT_DAYS) -> Path:
        """A new certificate for the same keys and permissions, valid for `days` from now. Returns its file.

        A node of an earlier release has no key for signatures. It gets one in its folder, which is created if needed.
        """
        return self._issue_again(self.issued(name)[0], days)

    def _succeed(self, former: AuthorityFolder, days: float) -> None:
        revoked = former.revocations()
        holding = [former.issued(name)[0] for name in former.names()]
        # A certificate is there and revoked at once if `revoke` was interrupted.
        holding = [one for one in holding if one.ends > self._clock() and one.serial not in revoked.serials]
        for certificate in holding:
            folder = self.folder / certificate.name
            _make_folder(folder)
            self._issue_again(certificate, days)
            # The files of the former authority stay until the operator removes them.
            files.write(folder / AUTHORITIES, "authorities that are trusted", [(AUTHORITY_LINE, former.public_key)])
            if revoked.number:
                files.write(folder / REVOKED, "certificates that are void", [(REVOKED_LINE, revoked.signed)])
        registries = self._registries()
        for certificate in holding:
            self._write_trust(self.folder / certificate.name, registries)

    def _issue_again(self, certificate: Certificate, days: float) -> Path:
        """A new certificate for the keys and permissions of this one."""
        name = certificate.name
        starts, ends = self._span(days)
        # Later than the former one, also if both are made within a second: nodes take the one that begins last for the newer.
        if starts <= certificate.starts < starts + SKEW / 2:
            starts = certificate.starts + 1
        renewed = replace(certificate, serial=_new_serial(), starts=starts, ends=ends)
        if not renewed.signing_key:
            signer, folder = signing.new_signing_keys(), self.folder / name
            _make_folder(folder)
            _write_signing_key(folder, name, signer)
            renewed = replace(renewed, signing_key=signer.public)
        return self._publish(renewed, issue(renewed, self._keys))

    def revoke(self, name: str) -> str:
        """Revoke all certificates of a node, older ones too. Returns the serial of the newest one.

        The name can then be issued again.
        """
        serials = [certificate.serial for certificate in self.issued(name)]
        self.revoke_serials(set(serials))
        os.replace(self.folder / ISSUED / name, self.folder / ISSUED / f"{name}.{serials[0]}.revoked")
        return serials[0]

    def revoke_serials(self, serials: set[str]) -> None:
        """Revoke certificates by their serials."""
        revoked = self.revocations().with_serials(serials, self._keys)
        files.write(
            self.folder / REVOKED, f"list {revoked.number} of revoked certificates", [(REVOKED_LINE, revoked.signed)]
        )
        registries = self._registries()
        for name in self.names():
            if (self.folder / name).is_dir():
                self._write_trust(self.folder / name, registries)

    def _span(self, days: float) -> tuple[float, float]:
        if not 0 < days <= 36_500:
            raise SecurityError(f"a certificate of {days:g} days; a number above 0 and up to 36500 is needed")
        now = float(int(self._clock()))
        return now, now + days * DAY

    def _publish(self, certificate: Certificate, signed: SignedCertificate) -> Path:
        comment = f"certificate {certificate.serial} of {certificate.name}, until {date(certificate.ends)}"
        lines = [(CERTIFICATE_LINE, signed.to_bytes())]
        issued = self.folder / ISSUED / certificate.name
        # Earlier certificates are kept, so that they can be revoked with it.
        now = self._clock()
        earlier = [one for one in self.signed(certificate.name) if Certificate.unpack(one.packed).ends > now - SKEW]
        files.write(issued, comment, [*lines, *((CERTIFICATE_LINE, one.to_bytes()) for one in earlier)])
        folder = self.folder / certificate.name
        if folder.is_dir():
            files.write(folder / NODE_CERTIFICATE, comment, lines)
        if certificate.is_registry:
            self._publish_registries()
        return issued

    def _publish_registries(self) -> None:
        """Write the certificates of the registries into the folders of all nodes."""
        registries = self._registries()
        for name in self.names():
            if (self.folder / name).is_dir():
                _write_registries(self.folder / name, registries)

    def _registries(self) -> list[bytes]:
        """The certificates of all registries that hold."""
        trust = Trust(frozenset((self.public_key,)), {self.public_key: self.revocations()})
        now = self._clock()
        newest = (files.read(self.folder / ISSUED / name, CERTIFICATE_LINE)[0] for name in self.names())
        # Signatures are verified for these only: an authority may have thousands of nodes.
        signed = [one for one in newest if Certificate.unpack(SignedCertificate.from_bytes(one).packed).is_registry]
        return [one.signed for one in merged(usable(signed, trust, now)[0], trust.authorities, now)]

    def _write_trust(self, folder: Path, registries: list[bytes] | None = None) -> None:
        """Write the public files of the cluster into a node's folder. Entries of other authorities stay there.

        `registries`: what `_registries` returned, if it was called before.
        """
        trusted = {self.public_key, *lines_of(folder / AUTHORITIES, AUTHORITY_LINE)}
        files.write(folder / AUTHORITIES, "authorities that are trusted", [(AUTHORITY_LINE, key) for key in sorted(trusted)])
        _write_registries(folder, self._registries() if registries is None else registries)
        revoked = self.revocations()
        if revoked.number:
            others = [
                signed
                for signed in lines_of(folder / REVOKED, REVOKED_LINE)
                if Revocations.from_bytes(signed).authority != self.public_key
            ]
            lines = [(REVOKED_LINE, signed) for signed in (revoked.signed, *others)]
            files.write(folder / REVOKED, "certificates that are void", lines)


def _write_registries(folder: Path, registries: list[bytes]) -> None:
    if registries:
        lines = [(CERTIFICATE_LINE, signed) for signed in registries]
        files.write(folder / REGISTRY, "certificates of the registries", lines)


def trust_of(folder: Path) -> Trust | None:
    """The trust of a node in the authority of this folder. None if it is no authority's folder. Reads no private key."""
    if not (folder / AUTHORITY).exists():
        return None
    lists = [Revocations.from_bytes(signed) for signed in lines_of(folder / REVOKED, REVOKED_LINE)]
    return Trust(frozenset(files.read(folder / AUTHORITY, AUTHORITY_LINE)), {one.authority: one for one in lists})


def permissions_of(certificate: Certificate) -> dict[str, tuple[str, ...]]:
    """The permissions of a certificate, by name."""
    return {name: getattr(certificate, name) for name in PERMISSIONS}


def date(seconds: float) -> str:
    """A time in readable form, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _write_signing_key(folder: Path, name: str, signer: KeyPair) -> None:
    comment = f"private key for signatures of {name}; show it to nobody"
    files.write(folder / NODE_SIGNING, comment, [(PRIVATE_KEY_LINE, signer.private)], True)


def _new_serial() -> str:
    return os.urandom(8).hex()


def _check_name(name: str) -> None:
    is_right = 0 < len(name) <= 100 and name.isprintable() and not name.startswith(".") and not set(name) & set("/\\ ")
    if not is_right or name in _TAKEN or name.endswith(".revoked"):
        raise SecurityError(
            f"the name {name[:100]!r} cannot be that of a node; letters, digits, '-', '_' and '.' are needed, and none of "
            f"{', '.join(_TAKEN)}"
        )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SecurityError(f"the folder {path} cannot be made: {exc.strerror}") from exc
