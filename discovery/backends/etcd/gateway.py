"""Requests to one member of etcd through its JSON gateway, and a sentence for everything that goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from discovery.backends.etcd.requests import Body
from discovery.backends.stream import keepalive_options, name_of
from discovery.backends.tls import MEND, tls_context
from discovery.backends.urls import EngineUrl, unreachable
from discovery.exceptions import DirectoryError, EngineError, EngineRefusal

#: Seconds for one answer. A member without a quorum does not answer at all.
TIMEOUT = 3.0
#: The codes of gRPC for these failures.
INVALID, NOT_FOUND, DENIED, UNAUTHENTICATED = 3, 5, 7, 16


class EtcdFailure(Exception):
    """etcd answered with an error. `code` is gRPC's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text.removeprefix("etcdserver: ")[:200])
        self.code = code


class EtcdGateway:
    """One member, as one thread uses it. `place`: the prefix of all keys, for the text about missing permissions.

    `token`: of a login that another gateway to this member made.
    """

    def __init__(self, server: tuple[str, int], url: EngineUrl, place: str, token: str | None = None) -> None:
        import urllib3

        self._errors = urllib3.exceptions
        self._timeout = urllib3.Timeout(connect=TIMEOUT, read=TIMEOUT)
        self.server = server
        self.name = name_of(server)
        self.token = token
        self._url = url
        self._place = place
        common: dict[str, Any] = {"maxsize": 1, "retries": False, "socket_options": keepalive_options()}
        context = tls_context(url)
        self._pool: urllib3.HTTPConnectionPool
        if context is None:
            self._pool = urllib3.HTTPConnectionPool(*server, **common)
        else:
            self._pool = urllib3.HTTPSConnectionPool(*server, ssl_context=context, **common)

    def log_in(self) -> None:
        """Gets a token for the user of the URL, if it names one. EngineError when etcd refuses the user or the password."""
        if not self._url.user:
            return
        try:
            answer = self._call("/v3/auth/authenticate", {"name": self._url.user, "password": self._url.password})
        except EtcdFailure as exc:
            if "not enabled" in str(exc):
                return  # This etcd has no users and lets everybody in.
            raise EngineError(f"{self.name} refused user {self._url.user!r} or the password: {exc}") from exc
        self.token = answer.get("token")

    def ask(self, path: str, body: Body) -> Body:
        """The answer to a request. EngineError when there is none, or when the attempt cannot go on after it.

        EtcdFailure when etcd refuses this one request.
        """
        try:
            return self._call(path, body)
        except EtcdFailure as exc:
            if exc.code == UNAUTHENTICATED and self._url.user:
                # Tokens expire after some minutes.
                self.log_in()
                with self.errors():
                    return self._call(path, body)
            if exc.code in (INVALID, NOT_FOUND, DENIED) and path != "/v3/kv/range":
                raise
            raise EngineError(self._sentence(exc)) from exc

    def close(self) -> None:
        """Closes the connection."""
        self._pool.close()

    def errors(self) -> AbstractContextManager[None]:
        """Turns an EtcdFailure into an EngineError: the attempt cannot go on without this request."""
        return self._raised_as(EngineError)

    def refusals(self) -> AbstractContextManager[None]:
        """Turns an EtcdFailure into an EngineRefusal, which is about one record, note or lock."""
        return self._raised_as(EngineRefusal)

    @contextmanager
    def _raised_as(self, kind: type[DirectoryError]) -> Iterator[None]:
        try:
            yield
        except EtcdFailure as exc:
            raise kind(self._sentence(exc)) from exc

    def _sentence(self, exc: EtcdFailure) -> str:
        if "user name is empty" in str(exc):
            return f"{self.name} wants a user name and a password: etcd://USER:PASSWORD@HOST:PORT/PREFIX"
        if exc.code == DENIED:
            who = repr(self._url.user) if self._url.user else "nobody in particular"
            return f"{self.name} does not let {who} read and write under {self._place!r}; grant a role for that prefix"
        return f"{self.name} answered: {exc}"

    def _call(self, path: str, body: Body) -> Body:
        answer = self._request(path, body)
        return self._checked(answer.status, answer.data)

    def _request(self, path: str, body: Body) -> Any:
        headers = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}
        if self.token is not None:
            headers["Authorization"] = self.token
        content = json.dumps(body).encode()
        try:
            return self._pool.urlopen("POST", path, body=content, headers=headers, timeout=self._timeout)
        except self._errors.NewConnectionError as exc:
            raise EngineError(f"{self.name} {unreachable(_reason(exc))}") from exc
        except self._errors.SSLError as exc:
            raise EngineError(f"TLS with {self.name} failed: {_reason(exc)}; {MEND}") from exc
        except self._errors.TimeoutError as exc:
            raise EngineError(f"{self.name} did not answer within {TIMEOUT:g} s") from exc
        except self._errors.HTTPError as exc:
            raise EngineError(f"{self.name} does not answer as etcd does: {_reason(exc)}; is it TLS that it wants?") from exc

    def _checked(self, status: int, content: bytes) -> Body:
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise EngineError(f"the server at {self.name} does not answer as etcd 3.4 does (HTTP status {status})")
        error = document.get("error")
        if error is not None or status != 200:
            raise EtcdFailure(int(document.get("code") or 0), str(error or document.get("message") or f"HTTP status {status}"))
        return document


def _reason(exc: BaseException) -> str:
    """The innermost reason of an error of urllib3."""
    cause: BaseException = exc
    while (inner := getattr(cause, "reason", None)) is not None and isinstance(inner, BaseException):
        cause = inner
    origin = cause.__cause__ or cause.__context__ or cause
    return getattr(origin, "strerror", None) or str(origin)[:200] or type(origin).__name__
