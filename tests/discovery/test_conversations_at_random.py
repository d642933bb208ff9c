"""A registry and its clients, over links that are slow, full or lost: who has read everything knows what the registry holds."""

import time
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discovery import Note, protocol
from discovery.client.connection import SUBSCRIBING, UP, WAITING
from discovery.client.registry_connection import RegistryConnection
from discovery.interest import covers, wants
from discovery.notes import NoteStore
from discovery.record_blocks import unpacked
from discovery.server.feed import ChangeFeed
from discovery.server.table import Table
from tests.at_random import examples
from tests.discovery.stage import record

NAMESPACE = "default"
INSTANCES = st.sampled_from(["one", "two", "three", "four", "five"])
SERVICES = st.sampled_from(["maths", "mails", "shop"])
CLIENTS = st.integers(0, 2)
KEYS = st.frozensets(st.sampled_from(["service:maths", "service:mails", "service:shop", "subscribers:orders"]), max_size=3)
#: Microseconds of the wall clock: notes have dates, and expire.
STAMP = int(time.time() * 1e6)
#: Frames that a link has room for.
ROOM = 4


class Link(RegistryConnection):
    """A client's connection whose frames a test carries."""

    def __init__(self, listener):
        self.up, self.down = deque(), deque()
        super().__init__("tcp://127.0.0.1:1", NAMESPACE, listener, 3.0)

    def send(self, message):
        if self.state not in (SUBSCRIBING, UP) or len(self.up) >= ROOM:
            return False
        self.up.append(protocol.encode(message))
        return True

    def connect(self, now):
        self.up.clear()
        self.down.clear()
        self.state = SUBSCRIBING
        self._begin(now)


class Client:
    """What one client believes; it checks that it is told in order."""

    def __init__(self, interest):
        self.interest = interest
        self.records, self.notes = {}, {}
        self.link = Link(self)

    def on_up(self, connection, snapshot, now):
        self.records = {entry[0].instance: entry[0] for part in snapshot for entry in part.entries}
        packed = [one for part in snapshot for block in part.blocks for one, _, _ in block.entries]
        self.records.update((one.instance, one) for one in unpacked(packed))
        self.notes = {note.key: note for part in snapshot for note in part.notes}

    def on_message(self, connection, message, now):
        match message:
            case protocol.Update():
                held = self.records.get(message.record.instance)
                # Of the same registry, and over one connection: versions never go back.
                assert held is None or message.record.rank >= held.rank
                self.records[message.record.instance] = message.record
            case protocol.Drop():
                self.records.pop(message.instance, None)
            case protocol.NotesChanged():
                self.notes.update((note.key, note) for note in message.notes)

    def on_extended(self, connection, now):
        assert covers(self.link.asked, self.link.answered)

    def on_down(self, connection, now):
        self.records, self.notes = {}, {}


class Conversations(RuleBasedStateMachine):
    """Three clients, of which one asks for everything. Frames get through one by one, or not at all."""

    def __init__(self):
        super().__init__()
        self.now, self.boots, self.requests = 0.0, 0, 0
        self.clients = [Client(None), Client(frozenset({"service:maths"})), Client(frozenset())]
        self.boot()
        self.read_everything()

    def boot(self):
        """A registry that knows nothing takes the place of the one before; every link is lost."""
        self.boots += 1
        self.table, self.notes = Table(self.now, ttl=10.0), NoteStore()
        self.feed = ChangeFeed(f"boot-{self.boots}", self.table, self.notes, self.push, lambda: self.now)
        for client in self.clients:
            self.lose(client)
            client.link.connect(self.now)

    def peer(self, client):
        return b"%d-%d" % (self.clients.index(client), self.boots)

    def push(self, peer, frame):
        client = self.clients[int(peer.partition(b"-")[0])]
        if client.link.state == WAITING or peer != self.peer(client):
            return None
        if len(client.link.down) >= ROOM:
            return False
        client.link.down.append(frame)
        return True

    def lose(self, client):
        if client.link.state != WAITING:
            client.link.close(self.now, "lost")

    # --- the registry ---

    @rule(instance=INSTANCES, service=SERVICES, rank=st.integers(0, 3), is_subscribed=st.booleans())
    def register(self, instance, service, rank, is_subscribed):
        subscriptions = [{"source": "orders"}] if is_subscribed else []
        new = record(instance, service, incarnation=rank, ttl=10.0, subscriptions=subscriptions)
        self.feed.push(self.table.register(new, self.now, 50, b"holder"))

    @rule(instance=INSTANCES, rank=st.integers(0, 3))
    def withdraw(self, instance, rank):
        self.feed.push(self.table.withdraw(NAMESPACE, instance, (rank, 0), self.now))

    @rule(key=st.sampled_from("abc"), stamp=st.integers(1, 5))
    def put_note(self, key, stamp):
        self.feed.push_notes(self.notes.take([Note(NAMESPACE, key, STAMP + stamp, 1e6, {"x": stamp})], time.time(), b"writer"))

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds):
        self.now += seconds
        self.feed.push(self.table.expire(self.now))

    @rule()
    def heartbeat(self):
        self.feed.heartbeat(self.table.is_warming(self.now))
        self.feed.take_turns(1.0)

    @rule(chance=st.integers(0, 4))
    def restart(self, chance):
        if not chance:
            self.boot()

    # --- the clients ---

    @rule(number=CLIENTS, keys=KEYS)
    def extend(self, number, keys):
        client = self.clients[number]
        if client.interest is not None:
            client.interest |= keys
        # As the directory's thread does in each round: what is wanted, and was not asked for yet.
        self.ask(client)

    def ask(self, client):
        link = client.link
        if link.state == UP and not covers(link.asked, client.interest):
            link.extend(client.interest - link.asked, self.now)

    @rule(number=CLIENTS)
    def lose_the_link(self, number):
        client = self.clients[number]
        self.lose(client)
        # Found out with the next frame, as a ROUTER finds out; a connection that is new has another name.
        self.feed.check_clients(False)
        self.feed.heartbeat(False)
        client.link.connect(self.now)

    # --- the links ---

    @rule(number=CLIENTS, frames=st.integers(1, ROOM))
    def deliver_down(self, number, frames):
        self.carry_down(self.clients[number], frames)

    def carry_down(self, client, frames):
        link = client.link
        for _ in range(min(frames, len(link.down))):
            if link.state != WAITING:
                link._take_frames([link.down.popleft()], self.now)

    @rule(number=CLIENTS, frames=st.integers(1, ROOM))
    def deliver_up(self, number, frames):
        self.carry_up(self.clients[number], frames)

    def carry_up(self, client, frames):
        for _ in range(min(frames, len(client.link.up))):
            message, peer = protocol.decode(client.link.up.popleft()), self.peer(client)
            match message:
                case protocol.Subscribe():
                    self.feed.subscribe(peer, message, self.now)
                case protocol.Extend():
                    self.feed.extend(peer, message, self.now)
                case protocol.Read():
                    self.feed.read(peer, message)

    @rule()
    def everybody_reads_everything(self):
        self.read_everything()

    @rule(number=CLIENTS, service=SERVICES)
    def extend_and_read(self, number, service):
        if self.clients[number].interest is not None:
            self.clients[number].interest |= {f"service:{service}"}
        self.read_everything()

    def read_everything(self):
        for _ in range(60):
            # A heartbeat finds out what a full link has left behind.
            self.feed.heartbeat(self.table.is_warming(self.now))
            self.feed.take_turns(1.0)
            for client in self.clients:
                self.carry_down(client, 1000)
                client.link.check(self.now)
                if client.link.state == WAITING:
                    client.link.connect(self.now)
                self.ask(client)
                self.carry_up(client, 1000)
            if all(self.has_read(client) for client in self.clients) and not self.is_waiting:
                break
        for client in self.clients:
            self.check(client)

    @property
    def is_waiting(self):
        """Whether the registry has something for somebody: what did not fit into a link is sent with the next heartbeat."""
        return any(subscriber.is_waiting for subscriber in self.feed.subscribers.values())

    def has_read(self, client):
        link = client.link
        return link.state == UP and not link.up and not link.down and covers(link.answered, client.interest)

    def check(self, client):
        assert self.has_read(client), (client.link.state, client.link.error, len(client.link.up), len(client.link.down))
        held = {entry[0].instance: entry[0] for entry in self.table.snapshot(None, self.now)}
        known = {instance: one for instance, one in client.records.items() if wants(client.interest, one)}
        assert known == {instance: one for instance, one in held.items() if wants(client.interest, one)}
        assert client.notes == {note.key: note for note in self.notes}

    def teardown(self):
        self.read_everything()

    @invariant()
    def an_answer_is_of_what_was_asked(self):
        for client in self.clients:
            assert client.link.state != UP or covers(client.link.asked, client.link.answered)


Conversations.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=30, deadline=None)
TestConversations = pytest.mark.timeout(300)(Conversations.TestCase)
