"""Pages that a web server serves besides the methods of a service.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from zmqservices.web.requests import WebRequest


class WebPage(Protocol):
    """A page at one URL. A stopping service does not wait for it."""

    def get_url_rule(self) -> Rule:
        """The rule of the requests to handle."""

    def handle_request(self, request: WebRequest) -> Response:
        """The response. It is made without a worker, so this must not block."""


class JsonPage:
    """A constant JSON document, for GET and HEAD."""

    def __init__(self, path: str, document: Mapping[str, Any]) -> None:
        self._path = path
        self._body = json.dumps(document, ensure_ascii=False).encode()

    def get_url_rule(self) -> Rule:
        return Rule(self._path, methods=["GET"])

    def handle_request(self, request: WebRequest) -> Response:
        return Response(self._body, mimetype="application/json")
