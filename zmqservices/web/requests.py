"""The requests that methods get: werkzeug's, with a bound on every body, also on chunked ones.

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
    """A werkzeug request. `path_values`: the parameters in the URL's rule."""

    path_values: dict[str, Any]
    #: The time of arrival (monotonic seconds), the rule that matches the URL, and the status of the response. Only set for
    #: probes.
    began_at = 0.0
    route: str | None = None
    status = 500
    #: Bounded: a value that could not be written again is malformed JSON, and becomes 400.
    json_module = jsontext

    @cached_property
    def authorization(self) -> Authorization | None:
        """The client's credentials; None if they are malformed, for which werkzeug raises errors in some cases."""
        try:
            return Authorization.from_header(self.headers.get("Authorization"))
        except ValueError:
            return None


def bounded_request(environ: dict[str, Any], max_body: int) -> WebRequest:
    """A request whose body raises RequestEntityTooLarge if it has more than `max_body` bytes."""
    request = WebRequest(environ)
    request.max_form_memory_size = max_body
    if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
        # werkzeug's own bound would silently cut such a body off.
        environ["wsgi.input"] = io.BufferedReader(_Bounded(environ["wsgi.input"], max_body))
    else:
        request.max_content_length = max_body
    return request


class _Bounded(io.RawIOBase):
    """A chunked body, whose length is not known beforehand."""

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
            # The body ended too early, or its chunks are malformed.
            raise ClientDisconnected("The body broke off.") from exc
        self._left -= len(data)
        if self._left < 0:
            raise RequestEntityTooLarge("The body is larger than is allowed.")
        buffer[: len(data)] = data
        return len(data)
