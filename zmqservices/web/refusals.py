"""Responses that the server makes itself, without an application, as bytes.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

import time
from http import HTTPStatus

from gevent.pywsgi import format_date_time
from werkzeug.exceptions import HTTPException


def refusal(status: int, text: str, has_body: bool) -> bytes:
    """A whole response that ends its connection. A response to HEAD has no body."""
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    body = f"Error: {text or reason}\n".encode()
    date = format_date_time(time.time()).decode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (body if has_body else b"")


def text_of_http(exc: HTTPException) -> str:
    """The text of an HTTPException for the client."""
    return exc.description or exc.name
