"""Whether processes answer: each address is greeted with HELLO, and says in its WELCOME what it serves.

A greeting runs no method of a service and needs no free worker, so it also tells of a process whose workers are all busy. A
process that is stopped, or whose greenlets hang in a loop, does not answer it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from zmqservices.exceptions import ProtocolError
from zmqservices.transport import DealerLink, SocketOptions, Sockets, UnusableEndpoint
from zmqservices.transport.blocking import BlockingReactor
from zmqservices.transport.reactor import Completion
from zmqservices.wire import envelope
from zmqservices.wire.messages import MAJOR, MINOR, Error, Hello, Welcome


@dataclass(frozen=True)
class Greeting:
    """What one address answered.

    `seconds`: from the first try to connect until the WELCOME; None when there was none within the time, and `problem` says
    why. `services`: by name, what the process says of each, as in a WELCOME: `draining` (bool) and `instances` (ids).
    """

    endpoint: str
    seconds: float | None
    services: dict[str, Any]
    problem: str = ""


class _Greeter:
    """The listener of one link: says HELLO once connected, and waits for the WELCOME."""

    def __init__(self, endpoint: str, hello: bytes | tuple[bytes, bytes], round: _Round) -> None:
        self.endpoint = endpoint
        self.link: DealerLink | None = None
        self.answer: Greeting | None = None
        self.problem = "no answer in time"
        self._hello = hello
        self._round = round

    def on_connect(self) -> None:
        if self.link is not None:
            self.link.send(self._hello)

    def unreachable(self) -> None:
        self.problem = "no connection could be made"

    def on_disconnect(self) -> None:
        self.problem = "it closed the connection"

    def on_message(self, body: bytes) -> bool:
        try:
            message = envelope.decode(body)
        except ProtocolError as error:
            message, self.problem = None, f"it sent what is no message: {str(error)[:200]}"
        if isinstance(message, Welcome):
            services = (message.info or {}).get("services")
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
    """All greetings of one call of `greet`; its stage is 1 once there is an answer for each, or the time is over."""

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
    endpoints: Iterable[str], node: str, namespace: str, timeout: float, options: SocketOptions | None = None
) -> list[Greeting]:
    """Greet all these addresses (`tcp://IP:PORT`) side by side, as `node`; one answer for each, in the same order.

    Takes `timeout` seconds at most. Never raises for what an address does or does not say.
    """
    wanted = list(endpoints)
    if not wanted:
        return []
    reactor, sockets = BlockingReactor(), Sockets(options or SocketOptions())
    round = _Round(reactor, len(wanted))
    greeters = [_Greeter(endpoint, envelope.encode(Hello(MAJOR, MINOR, node, namespace)), round) for endpoint in wanted]

    def begin() -> None:
        reactor.call_later(timeout, round.end)
        for greeter in greeters:
            try:
                greeter.link = DealerLink(reactor, sockets, greeter.endpoint, greeter)
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
