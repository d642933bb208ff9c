"""The web server of one container: its routes, the headers of every response, and the drain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any
from wsgiref.types import StartResponse

from gevent.event import Event
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from zmqservices.constants import DEFAULT_WEB_SERVER_ADDRESS, WEB_SERVER_CONFIG_KEY
from zmqservices.exceptions import Overloaded
from zmqservices.extensions import ProviderCollector, SharedExtension
from zmqservices.web.addresses import BindAddress, parse_address
from zmqservices.web.exchange import BODY
from zmqservices.web.listening import Server
from zmqservices.web.pages import WebPage
from zmqservices.web.protocol import HttpOnlyProtocol
from zmqservices.web.requests import WebRequest, bounded_request
from zmqservices.web.results import ErrorResponse, error_response
from zmqservices.web.settings import WebSettings
from zmqservices.web.site import Site
from zmqservices.worker_context import Container, WorkerContext

__all__ = ["BindAddress", "HttpOnlyProtocol", "WebServer", "WsgiApp", "parse_address"]

_log = logging.getLogger(__name__)

#: Bodies of up to this many bytes are read before a worker begins, so that no worker waits for a slow client.
READ_AHEAD = 1024 * 1024


class WebServer(ProviderCollector, SharedExtension):
    """The web server of one container. Its @http methods and WebSockets are its providers.

    A provider has `get_url_rule()` and `handle_request(request)`, which returns a werkzeug Response or another WSGI
    application. To change something for all routes of a service, subclass this, and the entrypoint that has it as `server`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_draining = False
        #: Further pages. Add to it before the start. They are served only if the service has providers.
        self.pages: list[WebPage] = []
        self._site: Site | None = None
        self._answering: set[object] = set()
        self._idle = Event()
        self._drained: Event | None = None

    def bind(self, container: Container) -> WebServer:
        bound = super().bind(container)
        WebSettings.read(container.config)  # A wrong setting is reported before anything starts.
        return bound

    # --- methods that subclasses may override ----------------------------------------------------------------------------------

    @property
    def bind_addr(self) -> BindAddress:
        """The configured address. Services of one process with the same address share one server."""
        return parse_address(self.container.config.get(WEB_SERVER_CONFIG_KEY, DEFAULT_WEB_SERVER_ADDRESS))

    def get_wsgi_app(self) -> Any:
        """Called once at the start: the WSGI application of this service. Override it to wrap the application in middleware."""
        return WsgiApp(self)

    def get_wsgi_server(
        self, sock: Any, wsgi_app: Any, protocol: Any = HttpOnlyProtocol, debug: bool = False
    ) -> Any:
        """Called once per address: make a server of `gevent.pywsgi` for a listening socket, without starting it.

        `debug` is Nameko's and has no effect here: the logger `zmqservices.web.access` logs each request.
        """
        host, port = sock.getsockname()[:2]
        environ = {"SERVER_NAME": host, "SERVER_PORT": str(port)}
        settings = self.settings
        return Server(
            sock, wsgi_app, protocol, settings.idle_timeout, environ, settings.header_timeout, settings.min_body_rate,
            settings.max_headers, settings.max_headers_size, settings.max_connections,
        )  # fmt: skip

    def context_data_from_headers(self, request: Request) -> dict[str, Any]:
        """Called for every request: the context data of its worker, which is sent with the worker's calls.

        Empty by default, because headers of unknown clients must not be trusted.
        """
        return {}

    def headers_from_context_data(self, worker_ctx: WorkerContext) -> Mapping[str, str]:
        """Called for every response of a worker: further headers for it."""
        return {}

    # --- life cycle --------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        self.settings = WebSettings.read(self.container.config)

    def start(self) -> None:
        """Called once all extensions are set up: listen. From here on requests may arrive."""
        if self._providers:
            self.wsgi_app = self.get_wsgi_app()
            self._site = Site.join(self, self.bind_addr, self.settings.reuse_port)

    def rules(self) -> list[Rule]:
        """New rules for all providers and pages."""
        rules = []
        by_name = sorted(self._providers, key=lambda one: getattr(one, "method_name", None) or "")
        for provider in [*by_name, *self.pages]:
            rule = provider.get_url_rule()
            if rule.map is not None:
                # A provider that keeps its rule returns one that was already used.
                rule = rule.empty()
            rule.endpoint = provider
            rules.append(rule)
        return rules

    @property
    def address(self) -> BindAddress | None:
        """The address at which it listens, with the real port; None while it does not listen."""
        return None if self._site is None else self._site.address

    def drain(self) -> None:
        """Refuse new requests. Returns when running ones are answered, or after `drain_timeout`.

        Called by every provider of the container as it stops. The first call drains; the others wait for it.
        """
        if self._drained is not None:
            self._drained.wait()
            return
        self._drained = Event()
        try:
            self.is_draining = True
            for provider in self._providers:
                # Providers whose responses do not end by themselves must end them.
                getattr(provider, "begin_to_drain", lambda: None)()
            if self._site is not None:
                self._site.begin_to_drain()
                if self._answering and not self._idle.wait(self.settings.drain_timeout):
                    _log.warning("%d requests of %s did not end while it was shutting down", len(self._answering), self.name)
        finally:
            self._drained.set()

    @property
    def name(self) -> str:
        """The name of the service."""
        return str(self.container.service_name)

    def stop(self) -> None:
        """Called when the container stops. Returns when the last provider has left and the address is closed."""
        super().stop()
        self._leave()

    def kill(self) -> None:
        """Close all connections at once."""
        self.is_draining = True
        self._leave()

    def _leave(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            site.leave(self)

    # --- requests ----------------------------------------------------------------------------------------------------

    def begin(self, answer: object) -> None:
        """A response begins."""
        self._answering.add(answer)
        self._idle.clear()

    def end(self, answer: object) -> None:
        """The response is sent, or cannot be sent."""
        self._answering.discard(answer)
        if not self._answering:
            self._idle.set()

    def check_load(self) -> None:
        """Raise Overloaded if `max_queued_calls` calls already wait for a worker, or an adaptive limit is reached."""
        waiting, most = self.container.pool.backlog(), self.settings.max_queued
        if waiting >= most:
            raise Overloaded(f"{waiting} calls wait for a worker; max_queued_calls is {most}")
        admission = self.container.admission
        if admission is not None and not admission.may_enter():
            raise Overloaded(admission.why_full())

    def count(self, worker_ctx: WorkerContext) -> None:
        """Count a call that was submitted, and has not begun, against an adaptive limit."""
        if self.container.admission is not None:
            self.container.admission.entered(worker_ctx)

    def match(self, environ: dict[str, Any]) -> tuple[Any, Any]:
        """The provider for a request, and the URL's parameters. Raises NotFound, MethodNotAllowed or RequestRedirect."""
        assert self._site is not None
        return self._site.routes(environ).match()

    def allowed_methods(self, environ: dict[str, Any]) -> set[str]:
        """The methods that any service at this address has for this URL; for `*`, the methods of all URLs."""
        if self._site is None:
            return set()
        if environ["PATH_INFO"] == "*":
            return {method for rule in self._site.url_map.iter_rules() for method in rule.methods or ()}
        return set(self._site.routes(environ).allowed_methods())


class WsgiApp:
    """The WSGI application of one service: lets the request's provider answer, and itself answers OPTIONS and unknown routes."""

    def __init__(self, server: WebServer) -> None:
        self.server = server
        self._settings = server.settings

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = bounded_request(environ, self._settings.max_body)
        if self.server.container.probes is not None:
            request.began_at = monotonic()
        self.server.begin(request)
        try:
            response = self._answer(request, environ)
            if isinstance(response, ErrorResponse):
                response = response.for_client(request.accept_mimetypes)
            if self._settings.cors is not None and isinstance(response, Response):
                self._add_cors(response, self._settings.cors.answer(request.headers.get("Origin")))
            # A WebSocket returns no Response, but an application that runs until the connection ends.
            request.status = response.status_code if isinstance(response, Response) else 101
            return _Sending(response(environ, start_response), lambda: self._ended(request))
        except BaseException:
            self._ended(request)
            raise

    @staticmethod
    def _add_cors(response: Response, headers: list[tuple[str, str]]) -> None:
        # Set and not added, because a service may return the same response again.
        for name, value in headers:
            if name == "Vary":
                response.vary.add(value)
            else:
                response.headers[name] = value

    def _ended(self, request: WebRequest) -> None:
        body = request.environ.get(BODY)
        if body is not None:
            body.close()
        self.server.end(request)
        if request.began_at:
            self._tell_answered(request)

    def _tell_answered(self, request: WebRequest) -> None:
        server = self.server
        probes = server.container.probes
        if probes is not None and probes.http_answered is not None:
            seconds = monotonic() - request.began_at
            probes.http_answered(server.name, request.method, request.route, request.status, seconds)

    def _answer(self, request: WebRequest, environ: dict[str, Any]) -> Any:
        if self.server.is_draining:
            text = f"{self.server.name} is shutting down"
            return ErrorResponse(f"{text}\n", 503, {"Retry-After": "1", "Connection": "close"}, "Service Unavailable", text)
        try:
            provider, request.path_values = self.server.match(environ)
            if request.began_at:
                request.route = provider.get_url_rule().rule
            self._read_ahead(request)
        except HTTPException as exc:
            if request.method == "OPTIONS":
                return self._options(request, environ, exc)
            return error_response(exc, ())
        return provider.handle_request(request)

    def _read_ahead(self, request: WebRequest) -> None:
        length = request.content_length
        if length is not None and length > self._settings.max_body:
            raise RequestEntityTooLarge(f"The body has {length} bytes; {self._settings.max_body} are allowed.")
        if length is not None and length <= READ_AHEAD:
            request.get_data()

    def _options(self, request: WebRequest, environ: dict[str, Any], exc: HTTPException) -> Response:
        """Answer OPTIONS: of a client, or of a browser for a page of another origin (preflight)."""
        allowed = self.server.allowed_methods(environ)
        if not allowed:
            return error_response(exc, ())
        response = Response(status=204, headers={"Allow": ", ".join(sorted({*allowed, "OPTIONS"}))})
        if self._settings.cors is not None and "Access-Control-Request-Method" in request.headers:
            response.headers.extend(self._settings.cors.preflight(request.headers.get("Origin"), allowed))
        return response


class _Sending:
    """The body of a response while it is sent. `ended` is called once it is sent, or cannot be sent."""

    def __init__(self, body: Iterable[bytes], ended: Callable[[], Any]) -> None:
        self._body = body
        self._ended = ended

    def __iter__(self) -> Any:
        return iter(self._body)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._ended()
