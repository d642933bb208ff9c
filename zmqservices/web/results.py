"""Turns the result of a method, or its error, into an HTTP response.

Rule 1: pure; no sockets, no greenlets.
Rule 2: the text of an error is sent only if the error is the client's own mistake.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from werkzeug.datastructures import Headers, MIMEAccept
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from zmqservices.exceptions import BadRequest, ContainerBeingKilled, Overloaded, WorkerCancelled, safe_for_serialization
from zmqservices.web.framing import BadAnswer, check_answer

__all__ = ["check_response", "error_response", "to_json", "to_response"]

#: The classes of errors that are the client's own mistakes.
Expected: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

#: The media types of JSON; the second is for errors (RFC 9457).
JSON_TYPES = ("application/json", "application/problem+json")

#: The errors of this package that mean "try again later".
NOT_NOW = (ContainerBeingKilled, Overloaded, WorkerCancelled)

class ErrorResponse(Response):
    """The response for an error: a text by default, or JSON for a client that asks for it (`problem`, RFC 9457)."""

    def __init__(
        self,
        body: str,
        status: int,
        headers: Mapping[str, str] | list[tuple[str, str]] | None,
        title: str,
        detail: str | None,
    ) -> None:
        super().__init__(body, status, headers)
        self.problem: dict[str, Any] = {"status": status, "title": title, "detail": detail or title}
        self._body = self.get_data()

    def for_client(self, accept: MIMEAccept) -> ErrorResponse:
        """The same response in the form that the client accepts, unless the service has replaced its text."""
        if self.get_data() == self._body:
            self.vary.add("Accept")
            mimetype = _json_type(accept, self.mimetype or "")
            if mimetype is not None:
                self.set_data(to_json(self.problem) + "\n")
                self.content_type = mimetype
        return self


def _json_type(accept: MIMEAccept, mimetype: str) -> str | None:
    """The media type of JSON that a client names and prefers at least as much as `mimetype`; None without one.

    `*/*` names none.
    """
    named = {kind: quality for kind, quality in accept if kind in JSON_TYPES or kind.endswith("+json")}
    if not named or not 0 < max(named.values()) >= accept[mimetype]:
        return None
    return JSON_TYPES[1] if named.get(JSON_TYPES[1]) == max(named.values()) else JSON_TYPES[0]


RETURNS = "a text, bytes, a dict or list (JSON), a generator, (status, body), (status, headers, body), or a Response"


def to_response(result: object) -> Response:
    """The response for the result of a method. Raises TypeError or ValueError for a result of another form."""
    if isinstance(result, Response):
        return result
    status, headers, body = _parts(result)
    content, mimetype = _content(body)
    response = Response(content, status=status, mimetype=mimetype)
    if headers:
        given = Headers(headers)
        for name in dict.fromkeys(given.keys()):
            response.headers.setlist(name, given.getlist(name))
    return response


def _parts(result: object) -> tuple[int, Mapping[str, Any] | list[Any], Any]:
    if not isinstance(result, tuple):
        return 200, {}, result
    headers: Any = None
    if len(result) == 2:
        status, body = result
    elif len(result) == 3:
        status, headers, body = result
    else:
        raise TypeError(f"a tuple of {len(result)} is no answer; {RETURNS} is needed")
    # HTTPStatus is an int as well. A status below 200 would not end the request.
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 999:
        raise TypeError(f"the status of an answer is {status!r}; a whole number from 200 to 999 is needed")
    return int(status), {} if headers is None else headers, body


def _content(body: object) -> tuple[Any, str]:
    if isinstance(body, str):
        return body, "text/plain"
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body), "application/octet-stream"
    if isinstance(body, (dict, list)):
        return to_json(body), "application/json"
    if isinstance(body, Iterator):
        return body, "text/plain"
    raise TypeError(f"Payload must be {RETURNS}; it is {reprlib.repr(body):.80}")


def check_response(response: Response, method: str) -> None:
    """Raise BadAnswer for a response that cannot be sent. Called while the error can still be the outcome of the call."""
    length = check_answer(response.status, response.headers)
    if length is None or response.is_streamed or response.status_code in (204, 304):
        return
    size = response.calculate_content_length()
    if size != length and not (method == "HEAD" and not size):
        raise BadAnswer(f"Content-Length is {length}, and the body has {size} bytes; leave it to the server")


def to_json(value: object) -> str:
    """JSON of a plain value. Raises TypeError or ValueError for values that JSON has not (nan, dates, objects)."""
    return json.dumps(value, allow_nan=False)


def error_response(exc: BaseException, expected: Expected) -> Response:
    """The response for an error: an HTTPException itself; 400 with the text of a client's mistake; otherwise one without text."""
    if isinstance(exc, HTTPException):
        return _own_response(exc)
    if isinstance(exc, (BadRequest, *_as_tuple(expected))):
        text = f"{type(exc).__name__}: {safe_for_serialization(exc)}"
        return ErrorResponse(f"Error: {text}\n", 400, None, "Bad Request", text)
    if isinstance(exc, NOT_NOW):
        return ErrorResponse("Error: Service Unavailable\n", 503, {"Retry-After": "1"}, "Service Unavailable", None)
    return ErrorResponse("Error: Internal Server Error\n", 500, None, "Internal Server Error", None)


def _own_response(exc: HTTPException) -> Response:
    kind = type(exc)
    is_plain = kind.get_response is HTTPException.get_response and kind.get_body is HTTPException.get_body
    if exc.response is not None or not is_plain or exc.code is None:
        return exc.get_response()
    return ErrorResponse(exc.get_body(), exc.code, exc.get_headers(), exc.name, str(exc.description or exc.name))


def _as_tuple(expected: Expected) -> tuple[Any, ...]:
    return expected if isinstance(expected, tuple) else (expected,)
