"""TLS to the servers of an engine: the options of its URL, and a connection that native threads can use in patched processes.

Internal.

    ?tls=yes                              TLS with the system's authorities
    ?ca=FILE&cert=FILE&key=FILE           PEM files: the authorities to trust, and the client's own certificate and key

Rule 1: names and addresses are always checked against the server's certificate. There is no option to leave that out.
Rule 2: no socket of `ssl` is used: gevent replaces it. Bytes are encrypted and decrypted in memory, and sent by the caller's.
"""

from __future__ import annotations

import ssl
from typing import Any

from discovery.backends.urls import EngineUrl, truth
from discovery.exceptions import DirectoryConfigurationError

#: The options of a URL that are about TLS.
OPTIONS = ("tls", "ca", "cert", "key")
#: What an error text about a failed handshake ends with.
MEND = "see ca=, cert= and key= in the URL"


def tls_context(url: EngineUrl) -> ssl.SSLContext | None:
    """How to encrypt what goes to these servers; None where the URL asks for no TLS.

    DirectoryConfigurationError for a file that cannot be read, or a key without a certificate.
    """
    options = url.options
    if not truth(options.get("tls", "no"), url) and not options.keys() & {"ca", "cert", "key"}:
        return None
    if "key" in options and "cert" not in options:
        raise DirectoryConfigurationError(f"the directory URL {url.name} has the option 'key' and no 'cert'; cert=FILE is needed")
    try:
        context = ssl.create_default_context(cafile=options.get("ca"))
        if "cert" in options:
            context.load_cert_chain(options["cert"], options.get("key"))
    except (OSError, ssl.SSLError) as exc:
        raise DirectoryConfigurationError(
            f"the certificates that {url.name} names cannot be read: {exc}; ca=FILE, cert=FILE and key=FILE in PEM are needed"
        ) from exc
    return context


class TlsBuffers:
    """Both directions of one encrypted connection, in memory. What `to_send` returns goes to the server."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: Any = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.is_over = False

    def shake_hands(self) -> bool:
        """Goes on with the handshake; True when it is complete. ssl.SSLError when the two do not agree."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def to_send(self) -> bytes:
        """Bytes for the server."""
        return self._outgoing.read()

    def write(self, plain: bytes) -> None:
        """Encrypts; see `to_send`."""
        view = memoryview(plain)
        while view:
            view = view[self._tls.write(view) :]

    def received(self, raw: bytes) -> bytes:
        """Takes bytes of the server, none at its end, and returns all that can be decrypted by now."""
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
        plain = []
        try:
            while part := self._tls.read(65536):
                plain.append(part)
            self.is_over = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.is_over = True
        return b"".join(plain)

    def shaken(self, raw: bytes) -> bool:
        """`shake_hands` once more, after these bytes of the server. ssl.SSLError at its end, too."""
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
        return self.shake_hands()


def why_tls_failed(exc: Exception) -> str:
    """What OpenSSL says, without its file and line."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return str(exc.verify_message)
    if isinstance(exc, ssl.SSLEOFError):
        return "the server closed the connection"
    reason = getattr(exc, "reason", None)
    return str(reason).replace("_", " ").lower() if isinstance(reason, str) else str(exc)[:200]
