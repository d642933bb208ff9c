"""The certificate that a called node shows on its link, and the services that it must not serve by that.

Pure: no sockets, no logs; the keys of this process decide.
"""

from __future__ import annotations

from typing import Any

from discovery.security.certificates import Certificate
from discovery.security.keys import Keys
from discovery.security.permissions import may_serve


class NodeCertificate:
    """The certificate of the node at the other end of one link, which has proven the key `server_key`."""

    def __init__(self, keys: Keys, server_key: bytes) -> None:
        self._keys = keys
        self._server_key = server_key
        self.certificate: Certificate | None = None
        #: The certificate in the form in which the node sent it.
        self._signed: Any = None

    def forget(self) -> None:
        """The connection has ended, or its certificate is no longer valid: the node must show one again."""
        self.certificate = self._signed = None

    def show(self, signed: Any) -> bool:
        """The node shows this certificate. Returns whether it is another one than before.

        Raises `discovery.security.verdicts.Refusal` unless it is valid, and for the key of this link.
        """
        if self.certificate is not None and signed == self._signed:
            return False
        self.certificate = self._keys.believed(signed, self._server_key)
        self._signed = signed
        return True

    def refusal(self) -> str:
        """Why the shown certificate is no longer valid; "" if it is, and if none was shown."""
        return "" if self._signed is None else self._keys.refusal_of(self._signed)

    def objection(self, service: str) -> str:
        """Why the node must not serve this service; "" if it may, and if no certificate was shown."""
        if self.certificate is None:
            return ""
        permission = may_serve(self.certificate, service)
        return "" if permission else permission.rule
