"""A world for the two halves of RPC without sockets and without a clock: time is wound by hand, messages are looked at."""

import heapq
import itertools
from types import SimpleNamespace

from discovery import Record, Seen
from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.calls.server import CallServer
from zmqservices.cluster.settings import Settings
from zmqservices.transport import Sent
from zmqservices.wire import envelope
from zmqservices.wire.messages import MAJOR, MINOR, Batch, Hello, Welcome

NAMESPACE = "tests"
SOCKETS = SimpleNamespace(check_process=lambda: None)


def messages_in(frames):
    """The messages that were sent together as `frames`."""
    message = envelope.decode(*frames) if isinstance(frames, tuple) else envelope.decode(frames)
    return [envelope.message_of(fields) for fields in message.messages] if isinstance(message, Batch) else [message]


class FakeReactor:
    """A reactor whose timers fire when the test winds its clock forward, and the clock itself."""

    must_be_entered = False
    looks_before_it_waits = False
    thread = None

    def __init__(self):
        self.now = 1000.0
        self.woken = []
        self._numbers = itertools.count()
        self._timers = []
        self._deferred = []

    def clock(self):
        return self.now

    def call_later(self, seconds, callback, *args):
        timer = SimpleNamespace(is_on=True)
        timer.cancel = lambda: setattr(timer, "is_on", False)
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), timer, callback, args))
        return timer

    def post(self, callback, *args):
        self.call_later(0.0, callback, *args)

    def run(self, action, *args):
        return action(*args)

    tell = run

    def defer(self, callback):
        self._deferred.append(callback)

    def wake(self, completions):
        self.woken += completions

    def turn(self):
        """Let all run that can run now."""
        self.wind(0.0)

    def wind(self, seconds):
        """Let so many seconds pass, and fire each timer when it is due."""
        end = self.now + seconds
        self._end_turn()
        while self._timers and self._timers[0][0] <= end:
            due, _, timer, callback, args = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if timer.is_on:
                callback(*args)
            self._end_turn()
        self.now = end

    def _end_turn(self):
        deferred, self._deferred = self._deferred, []
        for callback in deferred:
            callback()


# --- the caller's half -------------------------------------------------------------------------------------


class FakeLink:
    """A link on which the test plays the node at the other end."""

    def __init__(self, endpoint, listener):
        self.endpoint = endpoint
        self.listener = listener
        self.is_closed = False
        self.has_room = True
        self.sent = []

    def send(self, frames):
        if self.has_room:
            self.sent += messages_in(frames)
        return self.has_room

    def take_payload(self):
        return None

    def close(self):
        self.is_closed = True

    def said(self, kind):
        """The messages of this kind that were sent to the node."""
        return [message for message in self.sent if type(message) is kind]

    def say(self, *messages):
        """The node sends these; they arrive together."""
        for message in messages:
            self.listener.on_message(message if isinstance(message, bytes) else envelope.encode(message))
        self.listener.on_batch_end()

    def answer(self, call, value):
        self.say(envelope.encode_result(call.id, value, None))

    def greet(self, **services):
        """The connection stands, and the node says WELCOME with these services."""
        self.listener.on_connect()
        info = {"services": services} if services else None
        self.say(Welcome(MAJOR, MINOR, self.listener.node, NAMESPACE, info))


class FakeDirectory:
    """Lists what the test puts in `records`. `has_answered`: whether that is all there is."""

    def __init__(self):
        self.records = []
        self.has_answered = True

    def service(self, name):
        return [Seen(record) for record in self.records if record.service == name]

    def add_interest(self, services=(), sources=()):
        pass

    def subscribe(self, callback):
        return lambda: None

    def wait_ready(self, timeout, service=None):
        assert not timeout  # Nothing blocks in a caller.
        return self.has_answered

    def describe(self):
        return "the directory of this test"


class Calling:
    """One Caller. `add_instance` adds to the directory what it may call, `links` are the links that it made."""

    def __init__(self, **settings):
        self.reactor = FakeReactor()
        self.directory = FakeDirectory()
        self.links = {}
        self.caller = Caller(
            self.reactor,
            SOCKETS,
            self.directory,
            Settings.read({"NAMESPACE": NAMESPACE, "DIRECTORY": "static:", **settings}),
            "caller",
            clock=self.reactor.clock,
            new_link=self._new_link,
        )

    def _new_link(self, reactor, sockets, endpoint, listener):
        link = self.links[endpoint] = FakeLink(endpoint, listener)
        return link

    def add_instance(self, name, service="maths", is_greeted=True, zone=None, weight=1.0, **methods):
        """An instance at a node of its own. Returns its link."""
        endpoint = f"tcp://{name}:1"
        record = Record(service, name, f"node-{name}", endpoints={"rpc": endpoint}, methods=methods, zone=zone, weight=weight)
        self.directory.records.append(record)
        self.caller.expect(service)
        self.caller.update()
        if is_greeted:
            self.links[endpoint].greet()
        return self.links[endpoint]

    def begin(self, *args, service="maths", method="add", timeout=10.0, deadline=None, headers=None):
        """A call, after all that can run has run."""
        call = self.caller.begin(service, method, args, None, headers, timeout, deadline)
        self.reactor.turn()
        return call


# --- the serving half --------------------------------------------------------------------------------------


class FakeServerSocket:
    """A server socket at which the test plays the nodes that connect."""

    endpoint = "tcp://10.0.0.1:4000"

    def __init__(self, listener):
        self.listener = listener
        self.clients = {}
        self.blocked = set()
        self.sent = {}
        #: Routing ids of nodes whose queue is full, and of those that are connected no more.
        self.full, self.gone = set(), set()
        #: Routing ids of clients, of clients that may have another connection, and of peers that are no clients, but alive.
        self.shown, self.moved, self.heard_of = set(), set(), []
        self.is_closed = False

    def send(self, routing_id, frames):
        if routing_id in self.gone:
            return Sent.GONE
        if routing_id in self.full:
            return Sent.FULL
        self.sent.setdefault(routing_id, []).extend(messages_in(frames))
        return Sent.TAKEN

    def take_payload(self):
        return None

    def greeted(self, routing_id):
        self.shown.add(routing_id)

    def greeted_again(self, routing_id):
        self.moved.add(routing_id)

    def heard(self, routing_id):
        self.heard_of.append(routing_id)

    def forget(self, routing_id):
        self.clients.pop(routing_id, None)
        self.shown.discard(routing_id)

    def close(self):
        self.is_closed = True


class Client:
    """A node that is connected to the server socket."""

    def __init__(self, reactor, socket, routing_id):
        self._reactor = reactor
        self._socket = socket
        self.routing_id = routing_id

    def say(self, *messages):
        """Messages that arrive together. Returns how many of them each turn took."""
        listener = self._socket.listener
        turns = [0]
        for message in messages:
            known = self._socket.clients
            if self.routing_id in self._socket.blocked:
                continue
            if self.routing_id not in known:
                known[self.routing_id] = listener.on_connect(self.routing_id, "10.0.0.2")
            body = message if isinstance(message, bytes) else envelope.encode(message)
            turns[-1] += 1
            if listener.on_message(known[self.routing_id], body):
                listener.on_batch_end()
                turns.append(0)
        listener.on_batch_end()
        return [turn for turn in turns if turn]

    def greet(self, node="client", namespace=NAMESPACE, major=MAJOR):
        self.say(Hello(major, MINOR, node, namespace, None))
        return self

    def heard(self):
        """What was sent to it since this was last asked, after all that can run has run."""
        self._reactor.turn()
        return self._socket.sent.pop(self.routing_id, [])

    def is_behind(self, is_full=True):
        """It does not read: its queue has no room."""
        (self._socket.full.add if is_full else self._socket.full.discard)(self.routing_id)

    def is_gone(self):
        self._socket.gone.add(self.routing_id)
        self._socket.listener.on_disconnect()


class Serving:
    """One CallServer. `taken` are the calls that its services took."""

    def __init__(self, max_message_size=1024 * 1024, limits=None):
        self.reactor = FakeReactor()
        self.taken = []
        self.cancelled = []
        self.flushes = 0
        self._numbers = itertools.count(1)
        self.server = CallServer(
            self.reactor,
            SOCKETS,
            "tcp://10.0.0.1:0",
            "server",
            NAMESPACE,
            max_message_size,
            clock=self.reactor.clock,
            new_socket=self._new_socket,
            limits=limits,
        )

    def _new_socket(self, reactor, sockets, address, listener):
        self.socket = FakeServerSocket(listener)
        return self.socket

    def serve(self, name="maths", instance="one", take=None, idempotent=()):
        return self.server.serve(name, instance, take or self.taken.append, self._flush, self._cancel, idempotent)

    def _flush(self):
        self.flushes += 1

    def _cancel(self, worker, why):
        self.cancelled.append((worker, why))

    def connect(self, is_greeted=True):
        client = Client(self.reactor, self.socket, b"client-%d" % next(self._numbers))
        if is_greeted:
            client.greet().heard()
        return client

    def wind(self, seconds):
        self.reactor.wind(seconds)
