"""A remote node as its callers see it: its link, the greeting, and whether it may get calls.

    CONNECTING --linked--> GREETING --WELCOME--> UP --lost--> CONNECTING
                               |                               (ZeroMQ reconnects by itself)
                               +--another node answers, or another major version--> REFUSED
"""

from __future__ import annotations

import enum
import itertools
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, TypeAlias

from discovery.exceptions import SecurityError
from discovery.greeting import CERTIFICATE, RENEWS
from discovery.security.certificates import Certificate
from discovery.security.keys import Keys
from discovery.security.list_exchange import ListExchange
from discovery.security.verdicts import Refusal
from zmqservices.cluster.calls.cork import Cork
from zmqservices.cluster.calls.flow_control import FlowControlWindow
from zmqservices.cluster.calls.instances import Instance
from zmqservices.cluster.calls.node_certificate import NodeCertificate
from zmqservices.cluster.calls.send_queue import size_of
from zmqservices.cluster.calls.welcomed_services import WelcomedServices
from zmqservices.exceptions import MessageTooLarge, ProtocolError, serialize
from zmqservices.probes import ProbePoints
from zmqservices.resilience.silence import SILENT_BEATS, Silence
from zmqservices.transport import DealerLink, Sockets
from zmqservices.transport.dealer import DealerListener
from zmqservices.transport.faults import Faults
from zmqservices.transport.reactor import COUNTED_BYTES, COUNTED_REFUSAL, DRAIN_QUOTA, Reactor
from zmqservices.wire import envelope
from zmqservices.wire.envelope import decode, message_of
from zmqservices.wire.headers import HeaderLimits
from zmqservices.wire.messages import (
    MAJOR,
    MINOR,
    WAITING,
    Batch,
    Bye,
    Call,
    Error,
    Event,
    Hello,
    Message,
    Nack,
    Ping,
    Pong,
    Result,
    Welcome,
)
from zmqservices.wire.payloads import Payloads
from zmqservices.wire.quoting import plain

_log = logging.getLogger(__name__)


#: Seconds for which a burst of calls leaves a new node its share before it is greeted, unless connecting fails sooner.
EXPECTED = 0.5


class PeerStage(enum.Enum):
    CONNECTING = "not connected"
    GREETING = "connected and not yet welcomed"
    UP = "up"
    REFUSED = "refused"


class PeerLink(Protocol):
    """The connection to a node; a `DealerLink`."""

    @property
    def is_closed(self) -> bool: ...

    @property
    def send(self) -> Callable[[bytes | tuple[bytes, bytes]], bool]: ...

    def take_payload(self) -> bytes | None: ...

    def close(self) -> None: ...


#: Makes a link to an endpoint. The link reports to the listener.
NewLink: TypeAlias = Callable[[Reactor, Sockets, str, DealerListener], PeerLink]


class PeerOwner(Protocol):
    """Receives the answers of a peer's node and the changes of its link; a Caller. All methods run inside the reactor."""

    #: The probes that are told of changes of links; None while there are none.
    probes: ProbePoints | None
    #: Holds calls. Released before a link's last message, so that no held call follows it.
    cork: Cork
    #: The functions for messages other than answers: `other_kinds[kind](peer, message)`.
    other_kinds: dict[type, Callable[[Any, Any], None]]
    #: How many headers an event may have.
    header_limits: HeaderLimits

    def on_result(self, peer: Peer, result: Result, now: float) -> None: ...

    def on_error(self, peer: Peer, message: Error) -> None: ...

    def peer_changed(self, peer: Peer) -> None:
        """The stage, the flow-control window or the services of this peer changed, so that other instances may be called."""

    def peer_is_full(self, peer: Peer) -> None:
        """The flow-control window of this peer is full. `peer_changed` follows when it has room."""

    def peer_lost(self, peer: Peer) -> None:
        """The connection ended; calls in flight there may or may not have run."""

    def wake_all(self) -> None:
        """Wake the callers whose calls have ended. Called once after all messages that had arrived."""


class Peer:
    """One remote node. Tells `owner` of answers and of changes of the link."""

    def __init__(
        self,
        owner: PeerOwner,
        reactor: Reactor,
        sockets: Sockets,
        endpoint: str,
        node: str,
        namespace: str,
        own_node: str,
        clock: Callable[[], float] = monotonic,
        new_link: NewLink = DealerLink,
        keys: Keys | None = None,
        server_key: bytes = b"",
        exchanges_lists: bool = False,
    ) -> None:
        self._owner = owner
        self._clock = clock
        self.endpoint = endpoint
        self._keys = keys
        #: The public key that the node has proven; empty if connections are not encrypted.
        self.server_key = server_key
        #: The certificate that the node shows in its WELCOMEs; None without SECURITY.
        self._shown = None if keys is None else NodeCertificate(keys, server_key)
        #: Passes lists of revoked certificates on over this link; None where the directory does.
        self._lists = ListExchange(keys) if keys is not None and exchanges_lists else None
        #: The certificate that it has shown on this connection. (An attribute, because each event reads it.)
        self.certificate: Certificate | None = None
        #: Services that the certificate does not name and that were logged, on this connection.
        self._told: set[str] = set()
        #: Why the last handshake failed; "" if there was none, or no answer.
        self._handshake_problem = ""
        #: The id of the node that the directory lists; "" if it lists none (`static:`), and then any node is accepted.
        self._expected = node
        #: The id of the node that answered.
        self.node = node
        self._namespace = namespace
        self._own_node = own_node
        self.stage = PeerStage.CONNECTING
        self.is_up = False
        self.is_suspect = False
        #: Whether the node's answers may say how many calls wait there. An answer that does not say it means none.
        self.tells_waiting = False
        #: The time until which the first greeting is awaited; 0 once the node was greeted or could not be reached.
        self.expected_until = clock() + EXPECTED
        self.refusal = ""
        #: The methods that may be repeated, by service, as the node announced them.
        self.idempotent: dict[str, frozenset[str]] = {}
        self.instances: list[Instance] = []
        self._window = FlowControlWindow()
        #: Whether the flow-control window is full. Then there are no new calls until the node has read some of those in flight.
        self.is_full = False
        #: The tokens of PINGs for flow control. PINGs for heartbeats have the token 0.
        self._tokens = itertools.count(1)
        self._greeted = False
        #: Whether the node said that it does not know this client, and has sent no WELCOME since.
        self._was_forgotten = False
        self._last_heard = 0.0
        self._silence = Silence()
        #: The time, read once for all messages that arrive together; 0 between batches.
        self._batch_time = 0.0
        #: What counts against DRAIN_QUOTA in this turn besides the number of messages.
        self._batched = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            Error: self._on_error,
            Welcome: self._on_welcome,
            Bye: self._on_bye,
            Ping: self._on_ping,
            Pong: self._on_pong,
        }
        self._on_result = owner.on_result
        #: Empty for a node whose certificate is no longer valid, so that its events are dropped as well.
        self._other_kinds = owner.other_kinds
        self._headers = owner.header_limits
        self.link = new_link(reactor, sockets, endpoint, self)
        self._faults = Faults(_log)
        self._payloads = Payloads(self.link.take_payload)
        self.send = self.link.send

    # --- the link's listener ---------------------------------------------------------------------------------------

    def on_connect(self) -> None:
        self.stage = PeerStage.GREETING
        self._greeted = False
        self._handshake_problem = ""
        if self._shown is not None:
            # Each new connection needs the certificate again.
            self._shown.forget()
            self.certificate = None
            self._told.clear()
        self._greet()

    def unreachable(self, why: str = "") -> None:
        if why and why != self._handshake_problem:
            _log.warning("node %s at %s cannot be used: %s", self.node, self.endpoint, why)
        self._handshake_problem = why or self._handshake_problem
        self._expect_no_more()

    def _expect_no_more(self) -> None:
        if self.expected_until:
            self.expected_until = 0.0
            self._owner.peer_changed(self)

    def on_disconnect(self) -> None:
        was_up = self.is_up
        self.expected_until = 0.0
        if self.stage is not PeerStage.REFUSED:
            self.stage = PeerStage.CONNECTING
        self.is_up = self.is_suspect = self.is_full = self._was_forgotten = False
        self._greeted = False
        self._window = FlowControlWindow()
        if was_up:
            _log.info("lost the link to node %s at %s", self.node, self.endpoint)
            self._tell_lost()
        self._owner.peer_lost(self)

    def on_message(self, body: bytes) -> bool:
        now = self._batch_time
        if not now:
            now = self._batch_time = self._clock()
        try:
            size = len(body)
            payloads = self._payloads
            try:
                message = decode(body, None, Call, payloads)
                if payloads.fetched is not None:
                    size += payloads.settle(message)
            except ProtocolError as exc:
                self._faults.saw(f"node {self.node} at {self.endpoint}", exc)
                self._batched += COUNTED_REFUSAL + size // COUNTED_BYTES
                return self._batched >= DRAIN_QUOTA
            if type(message) is Result:
                self._on_result(self, message, now)
                if size > COUNTED_BYTES:
                    self._batched += size // COUNTED_BYTES
                    return self._batched >= DRAIN_QUOTA
            elif type(message) is Batch:
                return self._take_all(message, now, size)
            elif size <= self._headers.unchecked or self._is_fit(message, size):
                self._take(message)
            return False
        except Exception as exc:  # An error in this package's own code. Only the sender of the message suffers for it.
            self._faults.saw(f"node {self.node} at {self.endpoint}", f"{type(exc).__name__}; it is used no more", exc)
            self._refuse(f"what it sends cannot be handled: {type(exc).__name__}")
            return False

    def _take_all(self, batch: Batch, now: float, size: int) -> bool:
        is_long = size > self._headers.unchecked
        self._batched += len(batch.messages)
        on_result = self._on_result
        for fields in batch.messages:
            try:
                message = message_of(fields)
                if type(message) is Batch:
                    raise ProtocolError("a batch in a batch")
            except ProtocolError as exc:
                self._batched += COUNTED_REFUSAL
                self._faults.saw(f"node {self.node} at {self.endpoint}", exc)
                continue
            if type(message) is Result:
                on_result(self, message, now)
            elif not is_long or self._is_fit(message, size):
                self._take(message)
        return self._batched >= DRAIN_QUOTA

    def _is_fit(self, message: Message, within: int) -> bool:
        """Whether a message that came in many bytes is no event with too many headers. Such an event is given back."""
        if type(message) is not Event or self._headers.fit(message.headers, within):
            return True
        try:
            self._headers.check(message.headers, "the event", f"{message.type!r} of {message.source!r}")
        except MessageTooLarge as exc:
            self._faults.saw(f"node {self.node} at {self.endpoint}", exc)
            if message.group is not None:
                nack = Nack(message.group, message.origin, message.seq, 0.0, serialize(exc), message.subscription)
                self.send(envelope.encode(nack))
            return False
        return True

    def _take(self, message: object) -> None:
        handle = self._handlers.get(type(message))
        if handle is not None:
            handle(message)
            return
        take = self._other_kinds.get(type(message))
        if take is not None:
            take(self, message)

    def on_batch_end(self) -> None:
        if self._batch_time:
            self._last_heard = self._batch_time
            self._batch_time = 0.0
            self._batched = 0
            if self.is_suspect:
                _log.info("node %s at %s speaks again", self.node, self.endpoint)
                self.is_suspect = False
                self._tell_up()
                self._owner.peer_changed(self)
            self._owner.wake_all()
        if self.stage is PeerStage.GREETING and not self._greeted:
            self._greet()

    # --- the greeting ------------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        # ZeroMQ may report the handshake shortly before the link takes messages. Then the next drain sends the HELLO.
        self._greeted = True
        if self._lists is not None:
            self._lists.forget()
        if not self.send(self._hello()):
            self._greeted = False

    def _hello(self, is_renewal: bool = False) -> bytes | tuple[bytes, bytes]:
        info: dict[str, Any] = {WAITING: True}
        if self._keys is not None:
            info[CERTIFICATE] = self._keys.signed
        if is_renewal:
            info[RENEWS] = True
        if self._lists is not None:
            info |= self._lists.told()
        return envelope.encode(Hello(MAJOR, MINOR, self._own_node, self._namespace, info))

    def keys_changed(self, is_own: bool) -> None:
        """Refuse the node if its certificate is no longer valid. `is_own`: show it this node's new certificate.

        Also sends it lists of revoked certificates that it lacks.
        """
        if self._shown is not None and (why := self._shown.refusal()):
            self._shown.forget()
            self.certificate = None
            self._other_kinds = {}
            self._refuse(why)
            self._owner.peer_lost(self)
        elif self.is_up:
            if is_own:
                self.send(self._hello(is_renewal=True))
            self._send_lists()
        elif self.stage is PeerStage.REFUSED:
            # The reason of the refusal may no longer hold.
            self.stage = PeerStage.GREETING
            self._greet()

    def greet_again(self) -> None:
        """The node gave this client up, for not reading its answers, and refuses its calls: send HELLO again."""
        if self.is_up:
            _log.info("node %s at %s no longer knows this one: it is greeted again", self.node, self.endpoint)
            self.stage = PeerStage.GREETING
            self.is_up = False
            self._was_forgotten = True
            self._owner.peer_changed(self)
            self._greet()

    def _on_welcome(self, welcome: Welcome) -> None:
        if self._was_forgotten:
            # The node answers in order, so a call from before the new HELLO that is unanswered now will never be answered.
            self._was_forgotten = False
            self._owner.peer_lost(self)
        if welcome.major != MAJOR:
            self._refuse(f"it speaks version {welcome.major} of the protocol, and this process {MAJOR}")
        elif self._expected and welcome.node != self._expected:
            self._refuse(f"another node, {plain(welcome.node)}, answers there")
        elif self._shown is None or self._is_believed(self._shown, welcome):
            self.node = plain(welcome.node)
            welcomed = WelcomedServices(welcome.info)
            self.tells_waiting = welcomed.tells_waiting
            self.idempotent = welcomed.idempotent
            for instance in self.instances:
                record = instance.record
                # A static directory has no instance ids.
                instance.left = not welcomed.serves(record.service, record.instance if self._expected else None)
                self.judge(instance)
            if not self.is_up:
                self._tell_up()
            self.stage = PeerStage.UP
            self.is_up = True
            self._exchange_lists(welcome)
            self.expected_until = 0.0
            self.is_suspect = False
            self._last_heard = self._clock()
            self._owner.peer_changed(self)

    def _tell_up(self) -> None:
        probes = self._owner.probes
        if probes is not None and probes.link_up is not None:
            probes.link_up(self.node, self.endpoint)

    def _tell_lost(self) -> None:
        probes = self._owner.probes
        if probes is not None and probes.link_lost is not None:
            probes.link_lost(self.node, self.endpoint)

    def _is_believed(self, shown: NodeCertificate, welcome: Welcome) -> bool:
        """Check that the node's certificate is for the key of this link. If not, refuse the node and return False."""
        try:
            if shown.show((welcome.info or {}).get(CERTIFICATE)):
                self.certificate = shown.certificate
                self._other_kinds = self._owner.other_kinds
        except Refusal as exc:
            self._refuse(str(exc))
            return False
        return True

    def _exchange_lists(self, welcome: Welcome) -> None:
        if self._lists is None:
            return
        try:
            self._lists.takes(welcome.info)
        except SecurityError as exc:
            self._faults.saw(f"node {self.node} at {self.endpoint}", exc)
        self._send_lists()

    def _send_lists(self) -> None:
        while self._lists is not None and self._lists.is_due:
            self.send(self._hello(is_renewal=True))

    def judge(self, instance: Instance) -> None:
        """Use an instance only if the node's certificate names its service."""
        service = instance.record.service
        why = "" if self._shown is None else self._shown.objection(service)
        if why:
            if service not in self._told:
                _log.warning("instance %s is not used: %s", instance.record.instance, why)
            self._told.add(service)
            instance.left = True

    def _refuse(self, why: str) -> None:
        _log.warning("node %s at %s is not used: %s", self.node, self.endpoint, why)
        self.stage = PeerStage.REFUSED
        self.is_up = False
        self.expected_until = 0.0
        self.refusal = why
        probes = self._owner.probes
        if probes is not None and probes.link_refused is not None:
            probes.link_refused(self.node, self.endpoint, why)
        self._owner.peer_changed(self)

    # --- other messages -------------------------------------------------------------------------------------------

    def _on_error(self, error: Error) -> None:
        if error.id is None:
            details = error.error
            self._refuse(f"{plain(str(details.get('code')))}: {plain(str(details.get('value')))}")
        else:
            self._owner.on_error(self, error)
            if error.id == 0 and error.error.get("code") == "protocol":
                # An error about no call says that the node gave this client up.
                self.greet_again()

    def _on_bye(self, bye: Bye) -> None:
        for instance in self.instances:
            if bye.services is None or instance.record.service in bye.services:
                instance.left = True
        self._owner.peer_changed(self)
        self._owner.cork.release()
        # From here on no call for these services is sent on this link. The answer tells the node so.
        self.send(envelope.encode(Bye(bye.services, None)))

    def _on_ping(self, ping: Ping) -> None:
        self.send(envelope.encode(Pong(ping.token)))

    def _on_pong(self, pong: Pong) -> None:
        if self._window.answered(pong.token) and self.is_full and not self._window.is_full:
            self.is_full = False
            self._owner.peer_changed(self)

    # --- sending -----------------------------------------------------------------------------------------------------

    def send_counted(self, frames: bytes | tuple[bytes, bytes], now: float) -> bool:
        """Send a large message and count it against the flow-control window. A full window does not hold it back."""
        if not self.send(frames):
            return False
        self._window.sent(size_of(frames))
        self.ask_whether_read(now)
        if self._window.is_full and not self.is_full:
            self.is_full = True
            self._owner.peer_is_full(self)
        return True

    def ask_whether_read(self, now: float) -> None:
        """Send a PING if one is due. To be called from time to time while the peer `is_full`."""
        if self._window.wants_to_ask(now):
            token = next(self._tokens)
            if self.send(envelope.encode(Ping(token))):
                self._window.asked(token, now)

    # --- heartbeats --------------------------------------------------------------------------------------------------

    def beat(self, now: float, heartbeat: float) -> None:
        """Called every `heartbeat` seconds while calls are in flight here: send a PING to a silent node, and later suspect it.

        ZeroMQ's own heartbeats show that the remote process is not frozen; these show that its hub runs.
        """
        if not self.is_up:
            return
        silence = now - self._last_heard
        unanswered = self._silence.beat(now, heartbeat, self._last_heard)
        if unanswered:
            self.send(envelope.encode(Ping(0)))
        if unanswered >= SILENT_BEATS and not self.is_suspect:
            self.is_suspect = True
            _log.warning("node %s at %s has been silent for %.1f s: no new calls", self.node, self.endpoint, silence)
            probes = self._owner.probes
            if probes is not None and probes.link_suspect is not None:
                probes.link_suspect(self.node, self.endpoint, silence)
            self._owner.peer_changed(self)

    def condition(self, instance: Instance) -> str:
        """A phrase that describes the state of an instance here, for error texts."""
        if self.stage is PeerStage.REFUSED:
            return f"not used ({self.refusal})"
        if not self.is_up:
            return self._handshake_problem or self.stage.value
        if self._shown is not None and (why := self._shown.objection(instance.record.service)):
            return f"not used ({why})"
        if instance.left:
            return "draining"
        if self.is_suspect:
            return "silent"
        if self.is_full:
            return f"behind: {self._window.in_flight:,} bytes were sent to it and not read"
        return instance.record.state.lower()

    def close(self) -> None:
        if self.is_up:
            self._tell_lost()
        self.is_up = False
        self.link.close()
