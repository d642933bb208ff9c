"""A registry and its clients without a socket, a thread or a clock: frames wait in queues until a test lets them through."""

from collections import deque

from discovery.client.connection import SUBSCRIBING, UP
from discovery.client.registry_connection import RegistryConnection
from discovery.client.state import ClientState
from discovery.notes import NoteStore
from discovery.protocol import Extend, Read, Register, Subscribe, Withdraw, decode, encode
from discovery.server.feed import ChangeFeed
from discovery.server.table import Table

ADDRESS = "tcp://127.0.0.1:1"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Registry:
    """What a registry holds and sends. `clients` are read from and written to in turns, as a test likes."""

    def __init__(self, clock, ttl=10.0, boot_id="boot"):
        self.clock = clock
        self.boot_id = boot_id
        self.table = Table(clock.now, ttl)
        self.notes = NoteStore()
        self.feed = ChangeFeed(boot_id, self.table, self.notes, self._send, clock)
        self.peers = {}

    def _send(self, peer, frame):
        client = self.peers.get(peer)
        if client is None or not client.is_connected:
            return None
        if len(client.inbox) >= client.room:
            return False
        client.inbox.append(frame)
        return True

    def take(self, peer, frame):
        message = decode(frame)
        match message:
            case Subscribe():
                self.feed.subscribe(peer, message, self.clock.now)
            case Extend():
                self.feed.extend(peer, message, self.clock.now)
            case Read():
                self.feed.read(peer, message)
            case Register():
                self.feed.push(self.table.register(message.record, self.clock.now, len(frame), peer))
            case Withdraw():
                rank = (message.incarnation, message.version)
                self.feed.push(self.table.withdraw(message.namespace, message.instance, rank, self.clock.now))

    def register(self, record):
        self.feed.push(self.table.register(record, self.clock.now, 100, record.instance.encode()))

    def withdraw(self, record):
        self.feed.push(self.table.withdraw(record.namespace, record.instance, record.rank, self.clock.now))

    def expire(self):
        self.feed.push(self.table.expire(self.clock.now))


class _Connection(RegistryConnection):
    """The conversation with a registry, as of the moment at which the connection stands."""

    client = None
    #: Times that a gap in the numbers was found.
    gaps = 0

    def _subscribe_again(self, now):
        self.gaps += 1
        super()._subscribe_again(now)

    def open(self, now):
        self.client.is_connected = True
        self._socket = object()
        self.state = SUBSCRIBING
        self._begin(now)

    def _close(self):
        self._socket = None
        self._parts, self._sizes, self._held, self._unsent_read = [], {}, 0, None

    def send(self, message):
        if self._socket is None or self.state not in (SUBSCRIBING, UP):
            return False
        self.client.outbox.append(encode(message))
        return True


class _Seed:
    url = ADDRESS
    hint = ""
    valid_for = float("inf")
    is_partial = False

    def __init__(self, client):
        self.client = client

    def prepare(self, done):
        done([ADDRESS], None)

    def connection(self, address, namespace, listener, longest_pause, post):
        connection = _Connection(address, namespace, listener, longest_pause)
        connection.client = self.client
        self.client.connection = connection
        return connection

    def close(self, timeout):
        pass


class Client:
    """A directory client. `receive` and `transmit` let single frames through, `settle` all that there are."""

    def __init__(self, registry, interest, namespace="default", room=10**9):
        self.peer = f"client-{len(registry.peers)}".encode()
        self.registry = registry
        self.clock = registry.clock
        self.inbox, self.outbox = deque(), deque()
        self.room = room
        self.is_connected = False
        self.connection = None
        posted = deque()
        self._posted = posted
        registry.peers[self.peer] = self
        self.state = ClientState("test", [_Seed(self)], namespace, None, 1.0, posted.append, self.clock.now, interest)
        self.work()

    def work(self):
        self.state.work(self.clock.now)
        while self._posted:
            self._posted.popleft()(self.clock.now)
        self.state.work(self.clock.now)

    def transmit(self):
        """One frame of the client reaches the registry. False when none waits."""
        if self.outbox:
            self.registry.take(self.peer, self.outbox.popleft())
            return True
        return False

    def receive(self):
        """One frame of the registry reaches the client. False when none waits."""
        if self.inbox:
            frame = self.inbox.popleft()
            self.connection._take_frames([frame], self.clock.now)
            self.work()
            return True
        return False

    def lose_connection(self):
        self.is_connected = False
        self.inbox.clear()
        self.outbox.clear()
        self.connection.close(self.clock.now, "lost")
        self.registry.feed.heartbeat(False)

    def want(self, keys):
        self.state.want(frozenset(keys), self.clock.now)
        self.work()

    @property
    def records(self):
        return {seen.record.instance: seen.record for seen in self.state.published.view(self.clock.now).records.values()}


def settle(registry):
    """Everything that is on its way arrives."""
    for _ in range(10_000):
        registry.feed.take_turns(0.0)
        moved = [client.transmit() | client.receive() for client in registry.peers.values() if client.is_connected]
        if not any(moved) and not registry.feed.has_turns:
            return
    raise AssertionError("it never came to rest")
