"""The WSGI application of the dashboard: its files, the stream of pictures, details, and dead letters.

All reads are `GET`. The only request that changes something is `POST /api/dead-letters`, which `--operate` allows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from zmqservices.dashboard import access
from zmqservices.dashboard.collector import Collector, to_json
from zmqservices.exceptions import UnknownService

_log = logging.getLogger(__name__)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]

#: Headers of every answer. The page runs only our own files, whatever a name or an error text contains.
SECURE = [
    ("Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
     "form-action 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]  # fmt: skip

TYPES = {
    "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}  # fmt: skip

#: Seconds without a picture after which a stream sends a comment, so that the connection stays open.
HEARTBEAT = 15.0
#: The most streams at the same time, and the most bytes of the body of a request.
MOST_STREAMS, LARGEST_BODY = 32, 64 * 1024

ACTIONS = ("requeue", "drop")


class RefusedRequest(Exception):
    """The request is answered with this status and text."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class ForbiddenRequest(RefusedRequest):
    """The request is not allowed."""

    def __init__(self, text: str) -> None:
        super().__init__("403 Forbidden", text)


class Pages:
    """The WSGI application.

    `is_local`: only this machine can reach the server. `names`: host names in the URL of the page, besides IP addresses.
    """

    def __init__(self, collector: Collector, may_operate: bool, is_local: bool, names: Collection[str] = ()) -> None:
        self._collector = collector
        self._may_operate = may_operate
        self._is_local = is_local
        self._names = {name.lower() for name in names}
        self._files = _assets()
        self._streams = 0
        self._is_closing = False

    def close(self) -> None:
        """End each stream with its next picture."""
        self._is_closing = True

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            return self._answer(environ, start_response)
        except RefusedRequest as refused:
            return _send(start_response, refused.status, "application/json", to_json({"error": str(refused)}))
        except UnknownService as error:
            return _send(start_response, "404 Not Found", "application/json", to_json({"error": str(error)}))

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        is_api = path.startswith("/api/")
        # A link on another site may open the page, but its pages may use nothing of the API.
        site = environ.get("HTTP_SEC_FETCH_SITE") if is_api else None
        why = access.refusal(environ.get("HTTP_HOST"), environ.get("HTTP_ORIGIN"), site, self._is_local, self._names)
        if why:
            raise ForbiddenRequest(why)
        if path == "/api/dead-letters" and method == "POST":
            return _json(start_response, self._change(environ))
        if method not in ("GET", "HEAD"):
            raise RefusedRequest("405 Method Not Allowed", f"{method[:20]} is not allowed here; GET is needed")
        name = "index.html" if path == "/" else path.removeprefix("/")
        if name in self._files:
            return _send(start_response, "200 OK", TYPES[name.rpartition(".")[2]], self._files[name], method)
        if path == "/api/stream":
            return self._stream(start_response)
        query = {key: values[-1] for key, values in parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=10).items()}
        if path == "/api/details":
            return _json(start_response, self._collector.details(_given(query, "service"), query.get("instance")))
        if path == "/api/contract":
            return _json(start_response, self._collector.contract(_given(query, "service")))
        if path == "/api/dead-letters":
            return _json(start_response, self._collector.dead_letters(_given(query, "source"), _given(query, "group")))
        raise RefusedRequest("404 Not Found", f"there is no {path!r:.100}")

    # --- the stream ------------------------------------------------------------------------------------------------------

    def _stream(self, start_response: StartResponse) -> Iterator[bytes]:
        """A stream of server-sent events: pictures in JSON, and before them the timeline, if it has changed."""
        if self._streams >= MOST_STREAMS:
            raise RefusedRequest("503 Service Unavailable", f"{MOST_STREAMS} pages of this dashboard are open already; close one")
        self._streams += 1
        start_response("200 OK", [("Content-Type", "text/event-stream"), *SECURE])
        return self._pictures()

    def _pictures(self) -> Iterator[bytes]:
        # The newest picture may be old: while nobody looks, none are made.
        number, timeline = self._collector.number, -1
        try:
            yield b"retry: 1000\nevent: hello\ndata: %s\n\n" % to_json({"operate": self._may_operate})
            while not self._is_closing:
                picture = self._collector.next_picture(number, HEARTBEAT)
                if picture is None:
                    yield b": still here\n\n"
                    continue
                number = self._collector.number
                told = b"data: %s\n\n" % picture
                if timeline != self._collector.timeline_version:
                    timeline = self._collector.timeline_version
                    told = b"event: timeline\ndata: %s\n\n%s" % (self._collector.timeline, told)
                yield told
        finally:
            self._streams -= 1

    # --- dead letters ----------------------------------------------------------------------------------------------------

    def _change(self, environ: dict[str, Any]) -> dict[str, Any]:
        if not self._may_operate:
            raise ForbiddenRequest("this dashboard is read-only; start it with --operate to requeue or drop dead letters")
        if environ.get(f"HTTP_{access.HEADER.upper().replace('-', '_')}") != "1":
            raise ForbiddenRequest(f"the header {access.HEADER}: 1 is needed, which no page of another site can send")
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusedRequest("415 Unsupported Media Type", "the body must be application/json")
        asked = _body(environ)
        action, source, group = (_text(asked, name) for name in ("action", "source", "group"))
        if action not in ACTIONS:
            raise RefusedRequest("400 Bad Request", f"action is {action!r:.80}; one of {', '.join(ACTIONS)} is needed")
        seqs, journal = asked.get("seqs"), asked.get("journal")
        if not isinstance(seqs, list) or not all(type(seq) is int for seq in seqs):
            raise RefusedRequest("400 Bad Request", f"seqs is {seqs!r:.80}; a list of numbers is needed, an empty one for all")
        if journal is not None and not isinstance(journal, str):
            raise RefusedRequest("400 Bad Request", f"journal is {journal!r:.80}; a text is needed, or nothing")
        done = self._collector.change_dead_letters(action, source, group, seqs, journal)
        _log.info("%s of %d dead letters of %s for %s", action, done["count"], source, group)
        return done


def _assets() -> dict[str, bytes]:
    folder = resources.files("zmqservices.dashboard") / "assets"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in TYPES}


def _body(environ: dict[str, Any]) -> dict[str, Any]:
    body = environ["wsgi.input"].read(LARGEST_BODY + 1)
    if len(body) > LARGEST_BODY:
        raise RefusedRequest("413 Content Too Large", f"the body has more than {LARGEST_BODY} bytes")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedRequest("400 Bad Request", f"the body is no JSON: {error!s:.100}") from error
    if not isinstance(asked, dict):
        raise RefusedRequest("400 Bad Request", f"the body is {asked!r:.80}; an object is needed")
    return asked


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise RefusedRequest("400 Bad Request", f"{name} is {value!r:.80}; a text is needed")
    return value


def _given(query: dict[str, str], name: str) -> str:
    if not query.get(name):
        raise RefusedRequest("400 Bad Request", f"the parameter {name} is missing")
    return query[name]


def _json(start_response: StartResponse, value: object) -> list[bytes]:
    return _send(start_response, "200 OK", "application/json", to_json(value))


def _send(start_response: StartResponse, status: str, kind: str, body: bytes, method: str = "GET") -> list[bytes]:
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *SECURE])
    return [b"" if method == "HEAD" else body]
