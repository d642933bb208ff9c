"""Checks whether processes answer: sends HELLO to each address, and reads its services from the WELCOME.

A greeting runs no method and needs no free worker, so that a process whose workers are all busy also answers. A process that is
stopped, or whose hub is blocked, does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from discovery.greeting import CERTIFICATE
from discovery.security.keys import Keys
from discovery.security.verdicts import Refusal
from zmqservices.cluster.calls.identity import public_key_of
from zmqservices.exceptions import ProtocolError
from zmqservices.transport import DealerLink, SocketOptions, Sockets, UnusableEndpoint
from zmqservices.transport.blocking import BlockingReactor
from zmqservices.transport.reactor import Completion
from zmqservices.wire import envelope
from zmqservices.wire.messages import MAJOR, MINOR, Error, Hello, Welcome


@dataclass(frozen=True)
class Greeting:
    """The answer of one address.

    `seconds`: from the first attempt to connect to the WELCOME; None if none came in time, and then `problem` says why.
    `services`: the services in the WELCOME by name, each with `draining` (bool) and `instances` (ids).
    """

    endpoint: str
    seconds: float | None
    services: dict[str, Any]
    problem: str = ""


class _Greeter:
    """The listener of one link. It sends HELLO once connected, and waits for the WELCOME."""

    def __init__(
        self, endpoint: str, public_key: str | None, hello: bytes | tuple[bytes, bytes], round: _Round, keys: Keys | None
    ) -> None:
        self.endpoint = endpoint
        self.public_key = public_key
        self._keys = keys
        self._is_handshake_problem = False
        self.link: DealerLink | None = None
        self.answer: Greeting | None = None
        self.problem = "no answer in time"
        self._hello = hello
        self._round = round

    def on_connect(self) -> None:
        if self.link is not None:
            self.link.send(self._hello)

    def unreachable(self, why: str = "") -> None:
        self._is_handshake_problem = bool(why)
        self.problem = why or "no connection could be made"

    def on_disconnect(self) -> None:
        if not self._is_handshake_problem:
            self.problem = "it closed the connection"

    def on_message(self, body: bytes) -> bool:
        try:
            message = envelope.decode(body)
        except ProtocolError as error:
            message, self.problem = None, f"it sent what is no message: {str(error)[:200]}"
        if isinstance(message, Welcome):
            info = message.info or {}
            try:
                if self._keys is not None:
                    self._keys.believed(info.get(CERTIFICATE), public_key_of(self.public_key) or b"")
            except Refusal as refusal:
                self.give_up(f"it is not believed: {str(refusal)[:200]}")
                return False
            services = info.get("services")
            self._finish(Greeting(self.endpoint, self._round.elapsed(), services if isinstance(services, dict) else {}))
        elif isinstance(message, Error):
            self._finish(Greeting(self.endpoint, None, {}, f"it refused the greeting: {str(message.error)[:200]}"))
        return False

    def on_batch_end(self) -> None:
        pass

    def give_up(self, problem: str) -> None:
        self._finish(Greeting(self.endpoint, None, {}, problem))

    def _finish(self, answer: Greeting) -> None:
        if self.answer is None:
            self.answer = answer
            self._round.finished()


class _Round(Completion):
    """All greetings of one call of `greet`. Its stage is 1 once each has an answer, or time is up."""

    __slots__ = ("_left", "_reactor", "_started_at")

    def __init__(self, reactor: BlockingReactor, count: int) -> None:
        super().__init__()
        self._reactor = reactor
        self._left = count
        self._started_at = monotonic()

    def elapsed(self) -> float:
        return monotonic() - self._started_at

    def finished(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.end()

    def end(self) -> None:
        self.stage = 1
        self._reactor.wake((self,))


def greet(
    endpoints: Iterable[str] | Mapping[str, str | None],
    node: str,
    namespace: str,
    timeout: float,
    options: SocketOptions | None = None,
) -> list[Greeting]:
    """Greet these addresses (`tcp://IP:PORT`) at the same time, as `node`. Returns one answer for each, in the same order.

    A mapping gives the public key of each address, which encrypted connections need. Takes `timeout` seconds at most. Never
    raises because of an address.
    """
    wanted = dict(endpoints) if isinstance(endpoints, Mapping) else dict.fromkeys(endpoints)
    if not wanted:
        return []
    options = options or SocketOptions()
    reactor, sockets = BlockingReactor(), Sockets(options)
    round = _Round(reactor, len(wanted))
    keys = options.keys
    hello = envelope.encode(Hello(MAJOR, MINOR, node, namespace, None if keys is None else {CERTIFICATE: keys.signed}))
    greeters = [_Greeter(endpoint, key, hello, round, keys) for endpoint, key in wanted.items()]

    def begin() -> None:
        reactor.call_later(timeout, round.end)
        for greeter in greeters:
            try:
                greeter.link = DealerLink(reactor, sockets, greeter.endpoint, greeter, public_key_of(greeter.public_key))
            except UnusableEndpoint as error:
                greeter.give_up(str(error)[:200])

    def close() -> None:
        for greeter in greeters:
            if greeter.link is not None:
                greeter.link.close()

    try:
        reactor.run(begin)
        reactor.park(round, 1)
        reactor.run(close)
    finally:
        reactor.close()
        sockets.close()
    return [one.answer or Greeting(one.endpoint, None, {}, one.problem) for one in greeters]
