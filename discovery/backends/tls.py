"""TLS to the servers of an engine: the options of its URL, and a connection that native threads can use in patched processes.

Internal.

    ?tls=yes                              TLS with the system's authorities
    ?ca=FILE&cert=FILE&key=FILE           PEM files: the authorities to trust, and the client's own certificate and key

Rule 1: the host is always checked against the server's certificate. No option turns that off.
Rule 2: no socket of `ssl` is used, since gevent replaces it. Bytes are encrypted and decrypted in memory; the caller sends them.
"""

from __future__ import annotations

import ssl
from typing import Any

from discovery.backends.urls import EngineUrl, truth
from discovery.exceptions import DirectoryConfigurationError

#: The options of a URL for TLS.
OPTIONS = ("tls", "ca", "cert", "key")
#: The end of an error text about a failed handshake.
MEND = "see ca=, cert= and key= in the URL"


def tls_context(url: EngineUrl) -> ssl.SSLContext | None:
    """The TLS settings for these servers; None if the URL does not ask for TLS.

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
    """Both directions of one encrypted connection, in memory. The caller sends the bytes that `to_send` returns."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: Any = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.is_over = False

    def shake_hands(self) -> bool:
        """Continues the handshake; True when it is complete. ssl.SSLError if it fails."""
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
        """Takes bytes of the server (none at the end), and returns all bytes that can be decrypted by now."""
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
        """Continues the handshake with these bytes of the server (none at the end); returns and raises like `shake_hands`."""
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
        return self.shake_hands()


def why_tls_failed(exc: Exception) -> str:
    """The reason that OpenSSL gives, without its file and line."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return str(exc.verify_message)
    if isinstance(exc, ssl.SSLEOFError):
        return "the server closed the connection"
    reason = getattr(exc, "reason", None)
    return str(reason).replace("_", " ").lower() if isinstance(reason, str) else str(exc)[:200]
