"""Requests to one member of etcd, and a sentence for everything that goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from discovery import protocol
from discovery.backends.etcd.grpc import GrpcConnection
from discovery.backends.etcd.protobuf import field, fields, raw
from discovery.backends.stream import name_of
from discovery.backends.tls import tls_context
from discovery.backends.urls import EngineUrl
from discovery.client.patience import Patience
from discovery.exceptions import DirectoryError, EngineError, EngineOverdueError, EngineRefusal

#: Seconds to connect, and to wait for an answer at first. A member without a quorum does not answer at all.
TIMEOUT = 3.0
#: The most bytes of one answer. etcd's own limit for a request is 1.5 MB; an answer may hold all records.
LONGEST_ANSWER = protocol.MAX_HELD
#: The codes of gRPC for these failures.
INVALID, NOT_FOUND, DENIED, UNAUTHENTICATED = 3, 5, 7, 16
#: The beginnings of etcd's own texts if it is too busy, or has no quorum.
_BUSY = ("request timed out", "too many requests")
#: The beginnings of etcd's texts about a missing token, and one from before the last change of its users, which have other codes.
_OLD_TOKEN = ("user name is empty", "revision of auth store is old")
_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"


class EtcdFailure(Exception):
    """etcd answered with an error. `code` is gRPC's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text.removeprefix("etcdserver: ")[:200])
        self.code = code


class EtcdMember:
    """One member, as one thread uses it. `place`: the prefix of all keys, for the text about missing permissions.

    `token`: of a login that another connection to this member made.
    """

    def __init__(
        self, server: tuple[str, int], url: EngineUrl, place: str, patience: Patience, token: str | None = None
    ) -> None:
        self.server = server
        self.name = name_of(server)
        self.token = token
        self._url = url
        self._place = place
        self._patience = patience
        self._grpc: GrpcConnection | None = None

    def log_in(self) -> None:
        """Gets a token for the user of the URL, if it names one. EngineError when etcd refuses the user or the password."""
        if not self._url.user:
            return
        self.token = None
        try:
            answer = self._call(_AUTHENTICATE, field(1, self._url.user.encode()) + field(2, self._url.password.encode()))
        except EtcdFailure as exc:
            if "not enabled" in str(exc):
                return  # This etcd has no users and lets everybody in.
            raise EngineError(f"{self.name} refused user {self._url.user!r} or the password: {exc}") from exc
        with self.errors():
            self.token = raw(dict(fields(answer)).get(2, b"")).decode()

    def ask(self, path: str, message: bytes) -> bytes:
        """The answer to a request that may be made twice.

        EngineError when there is none, or when the attempt cannot go on after it. EtcdFailure when etcd refuses this one request.
        """
        try:
            return self._call(path, message)
        except EtcdFailure as exc:
            if self._url.user and (exc.code == UNAUTHENTICATED or str(exc).startswith(_OLD_TOKEN)):
                # Tokens expire after some minutes. Those of kind "jwt" also end with each change of a user or a role. There is no
                # token yet if users were switched on only now.
                self.log_in()
                with self.errors():
                    return self._call(path, message)
            if exc.code in (INVALID, NOT_FOUND, DENIED):
                raise
            if str(exc).startswith(_BUSY):
                self._patience.was_overdue()
                raise EngineOverdueError(self._sentence(exc)) from exc
            raise EngineError(self._sentence(exc)) from exc

    def close(self) -> None:
        """Closes the connection. A later request opens another one."""
        grpc, self._grpc = self._grpc, None
        if grpc is not None:
            grpc.close()

    def errors(self) -> AbstractContextManager[None]:
        """Turns an EtcdFailure into an EngineError: the attempt cannot go on without this request.

        An answer that cannot be decoded becomes an EngineError as well.
        """
        return self._raised_as(EngineError)

    def refusals(self) -> AbstractContextManager[None]:
        """Like `errors`, with an EngineRefusal, which is about one record, note or lock, for an EtcdFailure."""
        return self._raised_as(EngineRefusal)

    @contextmanager
    def _raised_as(self, kind: type[DirectoryError]) -> Iterator[None]:
        try:
            yield
        except EtcdFailure as exc:
            raise kind(self._sentence(exc)) from exc
        except ValueError as exc:
            raise EngineError(f"{self.name} sent no answer of etcd's: {exc}") from exc

    def _sentence(self, exc: EtcdFailure) -> str:
        if "user name is empty" in str(exc):
            return f"{self.name} wants a user name and a password: etcd://USER:PASSWORD@HOST:PORT/PREFIX"
        if exc.code == DENIED:
            who = repr(self._url.user) if self._url.user else "nobody in particular"
            return f"{self.name} does not let {who} read and write under {self._place!r}; grant a role for that prefix"
        return f"{self.name} answered: {exc}"

    def _call(self, path: str, message: bytes) -> bytes:
        """The answer. If the server has closed an older connection, the request is made once more on a new one."""
        is_old = self._grpc is not None
        try:
            return self._call_once(path, message)
        except EngineOverdueError:
            self.close()
            self._patience.was_overdue()
            raise
        except EngineError:
            self.close()
            if not is_old:
                raise
        return self._call(path, message)

    def _call_once(self, path: str, message: bytes) -> bytes:
        if self._grpc is None:
            self._grpc = GrpcConnection(self.server, tls_context(self._url), "the call", TIMEOUT, LONGEST_ANSWER)
        grpc = self._grpc
        grpc.begin(path, self.token)
        grpc.send(message, is_last=True)
        found: list[bytes] = []
        silence, heard = 0.0, time.monotonic()
        while not grpc.is_over:
            found += grpc.receive(self._patience.seconds)
            if len(found) > 1:
                break
            now = time.monotonic()
            silence, heard = max(silence, now - heard), now
        self._patience.was_answered(silence)
        if grpc.status:
            raise EtcdFailure(grpc.status, grpc.text)
        if len(found) != 1 or not grpc.is_over:
            raise EngineError(f"{self.name} does not speak gRPC as etcd does: {len(found)} messages")
        return found[0]
