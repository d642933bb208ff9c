"""Pages of a web server that answer beside the methods of a service.

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
    """What answers at one URL. Nothing waits for it when the service stops."""

    def get_url_rule(self) -> Rule:
        """Which requests are meant."""

    def handle_request(self, request: WebRequest) -> Response:
        """The answer; no worker runs for it, so it must not wait for anything."""


class JsonPage:
    """A document that does not change, for GET and HEAD."""

    def __init__(self, path: str, document: Mapping[str, Any]) -> None:
        self._path = path
        self._body = json.dumps(document, ensure_ascii=False).encode()

    def get_url_rule(self) -> Rule:
        return Rule(self._path, methods=["GET"])

    def handle_request(self, request: WebRequest) -> Response:
        return Response(self._body, mimetype="application/json")
