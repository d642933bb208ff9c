"""A source whose journals, links, directory and clock are the test's own: no sockets, no disk, no threads, no waiting."""

from types import SimpleNamespace

from zmqservices.cluster.calls.send_queue import SendQueue
from zmqservices.cluster.events.group_registrations import key_of
from zmqservices.cluster.events.source import Source
from zmqservices.cluster.events.subscription import Subscription, publishing
from zmqservices.exceptions import GroupConflict, JournalFull
from zmqservices.journal import Page, StoredEvent
from zmqservices.journal.acknowledged import Acknowledged
from zmqservices.probes import UNWATCHED
from zmqservices.wire import codec, envelope, topics
from zmqservices.wire.headers import HeaderLimits
from zmqservices.wire.messages import Event, Subscribe, Subscribed

GROUP = "mails.send:order.*"


class Reactor:
    """Runs what was posted in `turn`, and timers when the clock is wound to them."""

    def __init__(self):
        self.now = 1000.0
        self._posted, self._timers = [], []

    def clock(self):
        return self.now

    def post(self, function, *args):
        self._posted.append((function, args))

    def call_later(self, seconds, function, *args):
        timer = SimpleNamespace(at=self.now + seconds, run=lambda: function(*args))
        timer.cancel = lambda: self._timers.remove(timer) if timer in self._timers else None
        self._timers.append(timer)
        return timer

    def park(self, completion, stage):
        self.turn()
        assert completion.stage >= stage, "nothing will ever wake this dispatch"

    def wake(self, completions):
        pass

    def turn(self):
        while self._posted:
            function, args = self._posted.pop(0)
            function(*args)

    def wind(self, seconds):
        """Let time pass; whatever is due meanwhile happens in its order."""
        end = self.now + seconds
        self.turn()
        while due := [timer for timer in self._timers if timer.at <= end]:
            timer = min(due, key=lambda timer: timer.at)
            self._timers.remove(timer)
            self.now = max(self.now, timer.at)
            timer.run()
            self.turn()
        self.now = end


class MemoryJournal:
    """A journal that keeps its events in a list and answers at once. It has one origin."""

    def __init__(self, origin="here", room=1000):
        self.origin = self.id = origin
        self.path = f"{origin}.journal"
        self.room = room
        #: An error that `ensure_group` answers with.
        self.trouble = None
        self.events, self._groups, self._done, self.buried = [], {}, {}, []
        self._ahead = []

    @property
    def last_seq(self):
        return len(self.events)

    def append(self, event, done):
        if len(self.events) >= self.room:
            done(JournalFull("the journal is full"))
            return
        seq = len(self.events) + 1
        self.events.append(StoredEvent(seq, seq - 1, 0.0, event.type, event.body, event.headers, event.key, self.origin))
        done(seq)
        ahead, self._ahead = self._ahead, []
        for group, after, limit, told in ahead:
            if after == seq - 1:
                self.fetch(group, after, limit, told)
            else:
                told(None)
        self.on_commit(seq)

    def on_commit(self, last_seq):
        """Replaced by the journal that serves this one."""

    def give_way(self, seconds):
        pass

    def ensure_group(self, group, done):
        known = self._groups.get(group.name)
        if self.trouble is not None or known is not None and known.pattern != group.pattern:
            done(self.trouble or GroupConflict("another pattern"))
            return
        if known is None:
            self._done[group.name] = Acknowledged(len(self.events) if group.start == "new" else 0)
        self._groups[group.name] = group
        done(self._done[group.name].cursor)

    def remove_group(self, name, done):
        self._done.pop(name, None)
        done(self._groups.pop(name, None) is not None)

    def groups(self):
        return list(self._groups.values())

    def _waiting(self, name):
        matches = topics.compile(self._groups[name].pattern).matches
        return [event for event in self.events if matches(event.type) and event.seq not in self._done[name]]

    def waiting(self, name=GROUP):
        return [event.seq for event in self._waiting(name)]

    def fetch(self, name, after, limit, done):
        done(Page([event for event in self._waiting(name) if event.seq > after][:limit], self.last_seq, True))

    def fetch_ahead(self, name, after, limit, done):
        self._ahead.append((name, after, limit, done))

    def acknowledge(self, name, seq):
        if name in self._done:
            self._done[name].add(seq, seq)

    def bury(self, name, event, error, attempts, done):
        self.buried.append((event.seq, error, attempts))
        self.acknowledge(name, event.seq)
        done(None)

    def requeued(self, name, done):
        done([])

    def seen(self, name):
        pass

    def knows(self, origin, seq):
        return origin == self.origin and seq <= len(self.events)

    def stats(self):
        groups = {name: SimpleNamespace(waiting=len(self._waiting(name)), idle=0.0) for name in self._groups}
        return SimpleNamespace(groups=groups, dead_letters=len(self.buried))

    def close(self, done=None):
        pass


class Client:
    """The process of a member, at the other end of a link."""

    def __init__(self, node, source):
        self.node = node
        self.send_queue = SendQueue()
        self.received = []
        self.member = None
        self._source = source

    def subscribe(self, group=GROUP, pattern="order.*", kind="service_pool", credit=10, reliable=True, answers=(), **options):
        message = Subscribe(1, "orders", pattern, kind, f"{self.node}.1", group, reliable, credit, options or None)
        self.member = self._source.members.subscribe(self, message, answers)
        return self.member

    def answer(self, event, error=None):
        """Acknowledge the event; with `error`, say that its handler failed."""
        if error is None:
            self._source.members.acked(self.member, event.origin, (event.seq,))
        else:
            self._source.members.nacked(self.member, event.origin, event.seq, 0.0, error)

    @property
    def events(self):
        return [codec.unpack(message.body) for message in self.received if type(message) is Event]

    @property
    def last(self):
        return [message for message in self.received if type(message) is Event][-1]

    @property
    def is_confirmed(self):
        return any(type(message) is Subscribed for message in self.received)


class Links:
    """Hands encoded messages to clients; flushes are done by `Stage.turn`."""

    def __init__(self):
        self.to_flush = set()

    def send(self, client, frames):
        client.received.append(envelope.decode(frames))

    def request_flush(self, delivery):
        self.to_flush.add(delivery)

    def together(self, work, *args):
        work(*args)


class Directory:
    """Lists the records and notes that a test gives it."""

    def __init__(self):
        self.records, self.notes = {}, ()

    def view(self):
        return SimpleNamespace(records=self.records, notes=self.notes)

    def lists(self, node, want, service="mails", state="UP", suspect=False):
        record = SimpleNamespace(service=service, node=node, state=state, subscriptions=[want.to_dict()])
        self.records[node] = SimpleNamespace(record=record, suspect=suspect)

    def lists_publisher(self, node, want):
        self.lists(node, want, service=publishing("orders"))

    def remembers(self, want):
        self.notes = (SimpleNamespace(key=key_of(want.source, want.group), value=want.to_dict()),)


class Stage:
    """A source named "orders" on a reactor, with a journal in memory (or none, as a relay)."""

    id = "publisher"
    max_message_size = 10_000
    header_limits = HeaderLimits(100, 1000)
    directory_is_known = True
    is_encrypted = False
    watched = UNWATCHED

    def __init__(self, room=1000, has_journal=True, **settings):
        self.settings = SimpleNamespace(
            **{
                "folder": "nowhere", "max_deliveries": 3, "expires_after": None, "ack_wait": 30.0, "backoff": 0.0,
                "backoff_max": 0.0, "wait_for_peers": 1.0, "max_groups": 1000, "max_subscriptions": 1000, **settings,
            }
        )  # fmt: skip
        self.reactor = Reactor()
        self.directory = Directory()
        self.call_server = Links()
        self.empty_orphans = {}
        self.announced = 0
        self.unregistered = []
        self.broadcasts = []
        self.source = Source(self, "orders", has_journal, self.reactor.clock)
        if has_journal:
            self.journal = MemoryJournal(room=room)
            self.source.journals.add_own(self._served(self.journal))

    # --- what a source asks of its publisher ---

    def announce_soon(self, source):
        self.announced += 1

    def unregister_group(self, source, group):
        self.unregistered.append(group)

    def spawn(self, function):
        raise AssertionError("no greenlets here")

    def broadcast(self):
        return SimpleNamespace(send=lambda topic, frames: self.broadcasts.append(envelope.decode(frames)))

    def broadcast_endpoint(self):
        return "tcp://here:1"

    def listeners(self, topic):
        return 0

    # --- what a test does ---

    def _served(self, journal):
        served = self.source.new_served_journal()
        served.journal = journal
        journal.on_commit = lambda last_seq: self.reactor.post(served._committed, last_seq)
        return served

    def client(self, node):
        return Client(node, self.source)

    def member(self, node, **options):
        """A client whose subscription is in effect."""
        client = self.client(node)
        client.subscribe(**options)
        self.turn()
        return client

    def dispatch(self, *data, type="order.paid", key=None, reliable=True):
        for one in data:
            self.source.dispatch(type, one, None, None, key, reliable)
        self.turn()

    def adopt(self, journal):
        """Another process left this journal, and it was found."""
        served = self._served(journal)
        self.source.orphans.adopt(served)
        self.source.serve(served)
        self.turn()
        return served

    def turn(self):
        """Do all that can be done before time passes."""
        self.reactor.turn()
        while to_flush := self.call_server.to_flush:
            self.call_server.to_flush = set()
            for delivery in to_flush:
                delivery.flush()
            self.reactor.turn()

    def wind(self, seconds):
        self.turn()
        self.reactor.wind(seconds)
        self.turn()


def want(group=GROUP, pattern="order.*", kind="service_pool", reliable=True):
    return Subscription("orders", pattern, group, kind, reliable)
