"""One connection to one member of ZooKeeper, through kazoo, and a sentence for everything that goes wrong.

kazoo is imported here only.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from discovery.backends.tls import tls_context
from discovery.backends.urls import EngineUrl, unreachable
from discovery.backends.zookeeper.handler import NO_TLS, NativeHandler, Reasons
from discovery.backends.zookeeper.results import NoAnswerError
from discovery.client.patience import Patience
from discovery.exceptions import EngineError, EngineOverdueError, EngineRefusal
from discovery.native import NativeEvent, getaddrinfo, native_lock

#: Seconds to connect, and to wait for an answer at first. A member without a quorum does not answer at all.
TIMEOUT = 3.0
#: Seconds for the server to confirm that a session is closed.
CLOSE_TIMEOUT = 1.0
#: The most addresses of one host that are tried.
MAX_ADDRESSES = 4

#: A session: its id and its password.
ClientId = tuple[int, bytes]


class ZooKeeperConnection:
    """A connection to the member `name` at `address`, in the session `client_id`, or in a new one if that is None.

    `seconds`: the session's timeout. `host`: the member's host, for TLS. `patience`: with which it waits for answers. `ended` is
    called when the connection is over.
    """

    def __init__(
        self,
        name: str,
        address: str,
        host: str,
        url: EngineUrl,
        access: str,
        seconds: float,
        client_id: ClientId | None,
        patience: Patience,
        ended: Callable[[], None],
    ) -> None:
        from kazoo import exceptions, security
        from kazoo.client import KazooClient
        from kazoo.protocol.states import KazooState
        from kazoo.retry import KazooRetry

        self.name = name
        #: The errors of the server's answers; see `get`.
        self.errors: Any = exceptions
        self.acl: Any = {
            "open": security.OPEN_ACL_UNSAFE,
            "private": security.CREATOR_ALL_ACL,
            "readable": [*security.CREATOR_ALL_ACL, *security.READ_ACL_UNSAFE],
        }[access]
        #: Whether the connection has failed. Its session is then left open for the next attempt.
        self.has_failed = False
        self.has_expired = False
        context = tls_context(url)
        self._url = url
        self._settled = NativeEvent()
        self._ended = ended
        self._patience = patience
        self._is_encrypted = context is not None
        self._is_closed = False
        self._lock = native_lock()
        self._handler = NativeHandler(TIMEOUT, self._over, None if context is None else (context, host))
        once = KazooRetry(max_tries=1, sleep_func=self._handler.sleep_func)
        #: kazoo's client; its methods that end with `_async` make requests, whose answers `get` returns.
        self.client: Any = KazooClient(
            address,
            timeout=seconds,
            client_id=client_id,
            handler=self._handler,
            auth_data=[("digest", f"{url.user}:{url.password}")] if url.user else [],
            connection_retry=once,
            command_retry=once,
            logger=Reasons(self._handler),
        )
        ip, port = address.rsplit(":", 1)
        # kazoo would look the address up again, with a function that gevent may have patched.
        self.client._connection._expand_client_hosts = lambda: [(ip, ip.strip("[]"), int(port))]
        if client_id is not None:
            # kazoo tells its listeners only changes of the state, and the first state of a client is LOST.
            self.client.state = KazooState.SUSPENDED
        self.client.add_listener(self._changed)

    @property
    def client_id(self) -> ClientId:
        """The session of this connection, once it is open."""
        found: ClientId = self.client.client_id
        return found

    def granted(self) -> float:
        """Seconds without a sign of life after which the server ends the session."""
        return self._handler.granted()

    def open(self) -> bool:
        """Connects. False if the session `client_id` has expired. EngineError if the server does not answer."""
        self.client.start_async()
        began = time.monotonic()
        self._settled.wait(self._patience.seconds, blocking=True)
        if self.client.connected:
            self._patience.was_answered(time.monotonic() - began)
            return True
        if self.has_expired:
            return False
        reason = self._handler.reason
        if reason is None:
            raise EngineOverdueError(f"did not answer within {self._waited():g} s")
        if reason.startswith(("cannot be reached", NO_TLS)):
            raise EngineError(reason)
        question = "" if self._is_encrypted else "does it want TLS (?tls=yes), "
        raise EngineError(f"accepted the connection and closed it; has it a quorum, {question}and is it ZooKeeper at all?")

    def get(self, result: Any) -> Any:
        """The answer to a request. EngineError if the connection fails; one of `errors` for what the server says."""
        errors, began = self.errors, time.monotonic()
        try:
            answer = result.get(timeout=self._patience.seconds)
        except NoAnswerError:
            self.has_failed = True
            raise EngineOverdueError(f"{self.name} did not answer within {self._waited():g} s") from None
        except (errors.ConnectionLoss, errors.SessionExpiredError, errors.SessionMovedError, errors.AuthFailedError):
            raise self.failed(self.why_it_ended()) from None
        self._patience.was_answered(time.monotonic() - began)
        return answer

    def _waited(self) -> float:
        """Seconds that an overdue answer was awaited. The next one gets more time."""
        waited = self._patience.seconds
        self._patience.was_overdue()
        return waited

    def failed(self, text: str) -> EngineError:
        """An error with this text after the member's name; the connection counts as failed."""
        self.has_failed = True
        return EngineError(f"{self.name} {text}")

    def why_it_ended(self) -> str:
        """The second half of a sentence that begins with the member's name."""
        return "did not answer in time" if "ping" in (self._handler.reason or "") else "closed the connection"

    def close(self, is_for_good: bool) -> None:
        """Ends the connection and waits for that. `is_for_good`: ends the session as well, which deletes its nodes."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._handler.cut(CLOSE_TIMEOUT if is_for_good else 0.0)
        self.client.stop()
        self.client.close()

    def _changed(self, state: object) -> None:
        from kazoo.protocol.states import KeeperState

        if self.client.client_state == KeeperState.EXPIRED_SESSION:
            self.has_expired = True
        self._settled.set()

    def _over(self) -> None:
        self._settled.set()
        self._ended()

    # --- errors of the server ---

    def read_error(self, exc: Exception, path: str) -> EngineError:
        """The error that ends an attempt, since a node could not be read."""
        if isinstance(exc, self.errors.NoAuthError):
            return EngineError(self.forbidden("read", path))
        return EngineError(f"{self.name} answered: {type(exc).__name__} {exc!s:.200}")

    @contextmanager
    def refusals(self, path: str) -> Iterator[None]:
        """Turns an error of the server into an EngineRefusal, which is about one record, note or lock."""
        try:
            yield
        except self.errors.NoAuthError as exc:
            raise EngineRefusal(self.forbidden("write", path)) from exc
        except self.errors.ZookeeperError as exc:
            raise EngineRefusal(f"{self.name} answered: {type(exc).__name__} {exc!s:.200}") from exc

    def forbidden(self, verb: str, path: str) -> str:
        """A sentence for a user who must not do this."""
        if not self._url.user:
            return (
                f"{self.name} does not let a client without a password {verb} {path!r}; "
                "zookeeper://USER:PASSWORD@HOST:PORT/PREFIX is needed, or an ACL there for everybody"
            )
        return (
            f"{self.name} does not let user {self._url.user!r} with this password {verb} {path!r}; "
            "the password is needed with which it was made, or another ACL"
        )


def addresses_of(server: tuple[str, int], name: str) -> list[str]:
    """The addresses of a host, as kazoo wants them. EngineError if there is none."""
    try:
        found = getaddrinfo(*server, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise EngineError(f"{name} {unreachable(exc)}") from exc
    hosts = dict.fromkeys(str(item[4][0]) for item in found)
    return [f"[{host}]:{server[1]}" if ":" in host else f"{host}:{server[1]}" for host in hosts][:MAX_ADDRESSES]
