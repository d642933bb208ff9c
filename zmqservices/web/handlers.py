"""`@http` makes a method answer requests: `@http("GET", "/invoices/<int:number>")`."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Unpack

from gevent import GreenletExit
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from zmqservices.exceptions import ConfigurationError, ContainerBeingKilled, WorkerCancelled
from zmqservices.extensions import Entrypoint, EntrypointOptions
from zmqservices.hosting.outcomes import is_overridden, never_began, outcome_of
from zmqservices.web.exchange import HttpExchange
from zmqservices.web.requests import WebRequest
from zmqservices.web.results import check_response, error_response, to_response
from zmqservices.web.server import WebServer
from zmqservices.worker_context import ExcInfo, Outcome, WorkerContext, exc_info_of

__all__ = ["HttpRequestHandler", "http"]

_log = logging.getLogger(__name__)


class HttpRequestHandler(Entrypoint):
    """Runs a method for each request that matches `method` ("GET", or several: "GET,PUT") and `url`, a werkzeug rule.

    The method gets the request and the URL's parameters: `get_invoice(self, request, number)`. It returns a text, bytes, a
    dict or list (sent as JSON), a generator (streamed), `(status, body)`, `(status, headers, body)`, or a werkzeug Response.

    An HTTPException of werkzeug is sent as the response. `expected_exceptions` (and BadRequest) are the client's mistakes and
    become 400 with their text. All other errors become 500 without their text.
    """

    server = WebServer()

    def __init__(self, method: str, url: str, **kwargs: Unpack[EntrypointOptions]) -> None:
        super().__init__(**kwargs)
        self.method = method
        self.url = url
        # They are responses, so they are logged as warnings.
        expected = self.expected_exceptions
        self.expected_exceptions = (*(expected if isinstance(expected, tuple) else (expected,)), HTTPException)
        self._exchanges: set[HttpExchange] = set()
        _check(method, url)

    # --- methods that subclasses may override ----------------------------------------------------------------------------------

    def get_url_rule(self) -> Rule:
        """The rule of the requests to handle. `url` may lack its first slash."""
        return Rule(self.url if self.url.startswith("/") else f"/{self.url}", methods=_methods(self.method))

    def get_entrypoint_parameters(self, request: WebRequest) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the method."""
        return (request,), request.path_values

    def handle_request(self, request: WebRequest) -> Any:
        """Called in the connection's greenlet for each request. Returns the Response, or another WSGI application."""
        try:
            context_data = self.server.context_data_from_headers(request)
            args, kwargs = self.get_entrypoint_parameters(request)
            self.check_signature(args, kwargs)
            return self._ask_worker(request, args, kwargs, context_data)
        except Exception as exc:
            return self._told(exc)

    def response_from_result(self, result: Any) -> Response:
        """Called in the worker's greenlet with the method's result. An error here becomes the outcome of the call."""
        return to_response(result)

    def response_from_exception(self, exc: BaseException) -> Response:
        """Called with the error of the method, or with an error before it or in its result. Returns the Response."""
        return error_response(exc, self.expected_exceptions)

    def listed(self) -> dict[str, Any]:
        return {"kind": "http", "what": f"{','.join(_methods(self.method))} {self.url}"}

    def details(self) -> dict[str, Any]:
        rule = self.get_url_rule()
        return {"route": rule.rule, "http_methods": sorted(rule.methods or ())}

    # --- life cycle --------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        self.server.register_provider(self)

    def stop(self) -> None:
        """Refuse new requests, wait until the accepted ones are answered, and leave the server."""
        self.server.drain()
        self._end_bodies("the service is stopping")
        self.server.unregister_provider(self)
        super().stop()

    def kill(self) -> None:
        """Fail the waiting requests, whose workers are killed. (A streamed body ends with its worker.)"""
        for exchange in self._exchanges:
            exchange.fail(ContainerBeingKilled(f"{self.container.service_name} was killed"))

    def _end_bodies(self, why: str) -> None:
        # Some streamed bodies never end, and the container cannot cancel a worker that is already answering.
        for exchange in self._exchanges:
            if exchange.body is not None:
                exchange.body.abandon(why)

    # --- one request -------------------------------------------------------------------------------------------------

    def _ask_worker(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any], context_data: dict[str, Any]) -> Any:
        self.server.check_load()
        exchange = HttpExchange(request)
        self._exchanges.add(exchange)
        try:
            handle_result = partial(self._answer, exchange)
            self.server.count(self.container.submit(self, args, kwargs, context_data, handle_result))
            response, exc = exchange.wait()
            return response if exc is None else self._told(exc)
        finally:
            if exchange.body is None:
                self._exchanges.discard(exchange)

    def handle_result(
        self, exchange: HttpExchange, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None
    ) -> Outcome:
        """Called by the worker with the outcome. Returns when a streamed body is complete. May replace the result."""
        if exc_info is None:
            try:
                response = self.response_from_result(result)
                if isinstance(response, Response):
                    headers = self.server.headers_from_context_data(worker_ctx)
                    if headers:
                        response.headers.update(headers)
                    check_response(response, exchange.request.method)
                    if isinstance(exchange.request, WebRequest):
                        exchange.request.status = response.status_code
                    exchange.answer(response)
                else:
                    exchange.fail(TypeError(f"response_from_result gave {response!r:.80}; a Response is needed"))
            except BaseException as exc:
                if isinstance(exc, GreenletExit) and self.container._being_killed:
                    raise
                self._tell_of_failure(worker_ctx, exc)
                result, exc_info = None, exc_info_of(exc)
            finally:
                self._exchanges.discard(exchange)
        if exc_info is not None:
            exchange.fail(exc_info[1])
        return result, exc_info

    def _answer(self, exchange: HttpExchange, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
        if is_overridden(self, HttpRequestHandler) and not never_began(worker_ctx):
            result, exc_info = outcome_of(self, exchange, worker_ctx, result, exc_info)
            if exchange.is_answered:
                return result, exc_info
        return HttpRequestHandler.handle_result(self, exchange, worker_ctx, result, exc_info)

    def _tell_of_failure(self, worker_ctx: WorkerContext, exc: BaseException) -> None:
        if isinstance(exc, WorkerCancelled):
            _log.info("the body of %s ended early: %s", worker_ctx.call_id, exc)
        else:
            _log.error("the result of %s could not be sent: %s", worker_ctx.call_id, exc, exc_info=exc)

    def _told(self, exc: BaseException) -> Any:
        """The response for an error. If a subclass fails to make it, the default response is used."""
        try:
            return self.response_from_exception(exc)
        except Exception:
            _log.exception("%r could not make a response for %s", self, type(exc).__name__)
        try:
            return error_response(exc, ())
        except Exception:
            # An HTTPException of the service whose response cannot be made.
            return error_response(RuntimeError(), ())


def _methods(method: str) -> list[str]:
    return [one.strip().upper() for one in method.split(",")]


def _check(method: object, url: object) -> None:
    if not isinstance(method, str) or not all(one.isalpha() for one in _methods(method)):
        raise ConfigurationError(f"@http({method!r}, ...): a method is needed, or several with commas, such as 'GET,PUT'")
    if not isinstance(url, str):
        raise ConfigurationError(f"@http({method!r}, {url!r}): a path is needed, such as '/invoices/<int:number>'")


http = HttpRequestHandler.decorator
