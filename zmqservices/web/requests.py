"""Requests as methods get them: werkzeug's own, with a bound on the body that holds however the body comes.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

import io
from typing import Any
from wsgiref.types import InputStream

from werkzeug.datastructures import Authorization
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.utils import cached_property
from werkzeug.wrappers import Request

from zmqservices.web import jsontext


class WebRequest(Request):
    """werkzeug's request. `path_values`: the parameters that the URL's rule names."""

    path_values: dict[str, Any]
    #: When it came (monotonic seconds), the rule that fits its URL, and the status of the answer; only while probes listen.
    began_at = 0.0
    route: str | None = None
    status = 500
    #: Bounded: what cannot be written again is no JSON, and 400.
    json_module = jsontext

    @cached_property
    def authorization(self) -> Authorization | None:
        """What the client says of who it is; None where that makes no sense, which werkzeug raises for in some cases."""
        try:
            return Authorization.from_header(self.headers.get("Authorization"))
        except ValueError:
            return None


def bounded_request(environ: dict[str, Any], max_body: int) -> WebRequest:
    """A request whose body raises RequestEntityTooLarge where it has more than `max_body` bytes."""
    request = WebRequest(environ)
    request.max_form_memory_size = max_body
    if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
        # werkzeug's own bound would cut such a body off in silence.
        environ["wsgi.input"] = io.BufferedReader(_Bounded(environ["wsgi.input"], max_body))
    else:
        request.max_content_length = max_body
    return request


class _Bounded(io.RawIOBase):
    """A body in chunks, whose length nobody said beforehand."""

    def __init__(self, body: InputStream, max_body: int) -> None:
        super().__init__()
        self._body = body
        self._left = max_body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._body.read(len(buffer))
        except (OSError, ValueError) as exc:
            # It ended too early, or its chunks are none.
            raise ClientDisconnected("The body broke off.") from exc
        self._left -= len(data)
        if self._left < 0:
            raise RequestEntityTooLarge("The body is larger than is allowed.")
        buffer[: len(data)] = data
        return len(data)
