"""What is in the folder of an authority, as it can be read without its private key.

Internal.

    authority.key    the private key that signs; keep it off the hosts that run services
    authority        its public key
    issued/NAME      the newest certificate of each node
    revoked          the list of revoked certificates
    NAME/            the folder of a node, to be moved to its host; see `discovery.security.keys`
    registry/        the folder of the registries, unless each has a folder of its own
"""

from __future__ import annotations

from pathlib import Path

from discovery.exceptions import SecurityError
from discovery.model import LONGEST_NAME
from discovery.security import files
from discovery.security.certificates import Certificate, SignedCertificate
from discovery.security.keys import AUTHORITY_LINE, CERTIFICATE_LINE, REVOKED, REVOKED_LINE
from discovery.security.revocations import Revocations

AUTHORITY_KEY, AUTHORITY, ISSUED = "authority.key", "authority", "issued"


class AuthorityFolder:
    """The public part of an authority's folder. Everything raises SecurityError, which names the file."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / AUTHORITY).exists():
            raise SecurityError(
                f"{str(folder)!r} is no authority's folder: it has no file {AUTHORITY!r}; `zmqservices keys init DIR` makes one"
            )
        #: The key that nodes trust.
        self.public_key = files.read(self.folder / AUTHORITY, AUTHORITY_LINE)[0]

    def revocations(self) -> Revocations:
        """The list of revoked certificates."""
        if not (self.folder / REVOKED).exists():
            return Revocations(self.public_key)
        revoked = Revocations.from_bytes(files.read(self.folder / REVOKED, REVOKED_LINE)[0])
        if revoked.authority != self.public_key:
            raise SecurityError(f"{self.folder / REVOKED} is the list of another authority")
        return revoked

    def names(self) -> list[str]:
        """The nodes that have a certificate."""
        return sorted(path.name for path in (self.folder / ISSUED).iterdir() if not path.name.endswith(".revoked"))

    def issued(self, name: str) -> list[Certificate]:
        """All certificates of a node that may still be valid, the newest first."""
        if name not in self.names():
            known = ", ".join(self.names()) or "none"
            raise SecurityError(f"no certificate of {name[:LONGEST_NAME]!r} was issued here; there are: {known}")
        return [Certificate.unpack(signed.packed) for signed in self.signed(name)]

    def signed(self, name: str) -> list[SignedCertificate]:
        """The same in the form in which nodes send them. SecurityError if another authority signed one of them."""
        path = self.folder / ISSUED / name
        found = [SignedCertificate.from_bytes(signed) for signed in lines_of(path, CERTIFICATE_LINE)]
        if any(signed.authority != self.public_key or not signed.is_authentic for signed in found):
            raise SecurityError(f"{path} was not signed by this authority")
        return found


def lines_of(path: Path, kind: str) -> list[bytes]:
    """All contents of `kind` in the file; empty if there is no file."""
    return files.read(path, kind) if path.exists() else []
