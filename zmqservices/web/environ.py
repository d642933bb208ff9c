"""Makes WSGI's environment of a request (PEP 3333). All texts are native strings; received bytes are decoded as latin-1.

Internal. Services use `zmqservices.web.handlers`.

Rule 1: pure. A RequestHead goes in, a dict comes out.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import unquote
from wsgiref.types import WSGIEnvironment

from zmqservices.web.framing import RequestHead


def fill_environ(environ: WSGIEnvironment, head: RequestHead, protocol: str, address: object) -> None:
    """Add one request to the server's environment. `address` is the client's address in the socket's form."""
    path, _, query = head.target.partition("?")
    environ["REQUEST_METHOD"] = head.method
    environ["SCRIPT_NAME"] = ""
    environ["PATH_INFO"] = unquote(path, "latin-1") if "%" in path else path
    environ["QUERY_STRING"] = query
    environ["SERVER_PROTOCOL"] = protocol
    if isinstance(address, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = str(address[0]), str(address[1])
    for name, value in head.fields:
        key = _key(name)
        if key is None:
            continue
        if key not in environ:
            environ[key] = value
        elif key[:5] == "HTTP_":
            environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + value
    if head.host is not None:
        # If the target is a URL, the host of the URL counts (RFC 9112, 3.2.2).
        environ["HTTP_HOST"] = head.host


@lru_cache(1024)
def _key(name: str) -> str | None:
    """The name of a header in the environment; None for a header that is left out.

    A name with `_` could be confused with one with `-`, and `Proxy` with a setting of HTTP clients (httpoxy).
    """
    key = name.upper().replace("-", "_")
    if "_" in name or key == "PROXY":
        return None
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
