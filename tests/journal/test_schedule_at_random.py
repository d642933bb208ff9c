"""Random members and answers: no event is lost, none is handled twice, and the events of a key keep their order."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.at_random import examples
from zmqservices.journal import Bury, DeliverySchedule, Fetch, Page, Send, StoredEvent
from zmqservices.journal.acknowledged import Acknowledged

MEMBERS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from([None, "x", "y"])


class Mesh(RuleBasedStateMachine):
    """A journal, members that come, go, fall silent and fail, and answers that come late or twice."""

    @initialize(window=st.integers(2, 20), max_deliveries=st.integers(0, 4), chance=st.floats(0, 1))
    def start(self, window, max_deliveries, chance):
        self.now = 0.0
        self.max_deliveries = max_deliveries
        self.deliveries = DeliverySchedule(
            0, window=window, max_deliveries=max_deliveries, ack_wait=10.0, random=lambda: chance
        )
        self.journal = []
        self.loads = []
        #: The seq after which a commit was last asked for ahead; None once it was answered.
        self.ahead = None
        self.sends = []
        self.handled = []
        self.buried = {}
        self.members = set()
        self.heard = {}
        #: What each member may still be sent, who has what in flight, and who ever had it, by the model.
        self.credit = {}
        self.in_flight = {}
        self.had = {}
        #: Dead letters, or all of the journal: what came again is no longer in the order of its key.
        self.is_mixed = False
        self.requeued = 0

    def do(self):
        # What the silent have is taken from them.
        self.in_flight = {seq: holder for seq, holder in self.in_flight.items() if self.now - self.heard[holder] < 10.0}
        for action in self.deliveries.due(self.now):
            if isinstance(action, Fetch):
                # The journal reads at once, and the page arrives later.
                self.loads.append((action, {*self.handled, *self.buried}))
            elif isinstance(action, Bury):
                assert action.event.seq not in self.buried and action.event.seq not in self.handled
                self.buried[action.event.seq] = action
            else:
                self.send(action)

    def send(self, action):
        assert isinstance(action, Send)
        assert action.member in self.members
        assert action.event.seq not in self.handled and action.event.seq not in self.buried
        assert not self.max_deliveries or action.attempt <= self.max_deliveries
        seq = action.event.seq
        assert self.credit[action.member] > 0
        self.credit[action.member] -= 1
        assert seq not in self.in_flight
        if action.event.key is not None:
            assert not [e.seq for e in self.journal if e.key == action.event.key and e.seq in self.in_flight]
        self.in_flight[seq] = action.member
        self.had.setdefault(seq, set()).add(action.member)
        if action.event.key is not None and not self.is_mixed:
            earlier = {e.seq for e in self.journal if e.key == action.event.key and e.seq < action.event.seq}
            assert earlier <= {*self.handled, *self.buried}
        self.sends.append(action)

    @rule(key=KEYS, n=st.integers(1, 5))
    def append(self, key, n):
        first = len(self.journal)
        for _ in range(n):
            seq = len(self.journal) + 1
            self.journal.append(StoredEvent(seq, seq - 1, self.now, "t", b"", None, key, "o"))
        ahead, self.ahead = self.ahead, None
        if ahead == first:
            # As much as two of them are handed over with their commit.
            handed = tuple(self.journal[first : first + 2])
            self.deliveries.offered(ahead, Page(handed, handed[-1].seq, len(handed) == n))
        self.deliveries.appended(len(self.journal))
        self.do()

    @rule()
    def ask_ahead(self):
        self.ahead = self.deliveries.next_after

    @precondition(lambda self: self.loads)
    @rule(works=st.booleans())
    def answer_load(self, works):
        assert len(self.loads) == 1
        if works:
            self._load()
        else:
            self.loads.clear()
            self.deliveries.not_loaded(self.now)
        self.do()

    @rule(member=MEMBERS, credit=st.integers(0, 4))
    def join(self, member, credit):
        self.members.add(member)
        self.hear(member)
        self.deliveries.joined(member, self.now)
        self.grant(member, credit)
        self.do()

    @rule(member=MEMBERS)
    def leave(self, member):
        self.members.discard(member)
        self.credit.pop(member, None)
        self.in_flight = {seq: holder for seq, holder in self.in_flight.items() if holder != member}
        self.deliveries.left(member, self.now)
        self.do()

    def hear(self, member):
        if member in self.members:
            self.heard[member] = self.now

    def grant(self, member, n):
        self.hear(member)
        if member in self.members:
            self.credit[member] = self.credit.get(member, 0) + n
        self.deliveries.granted(member, n, self.now)

    @rule(member=MEMBERS, seq=st.integers(-5, 60), answer=st.sampled_from(["ack", "nack", "return"]), process=st.just("z"))
    def say_anything(self, member, seq, answer, process):
        """An answer for an event that the member never had changes nothing."""
        if member in self.had.get(seq, ()):
            return
        self.hear(member)
        if answer == "ack":
            assert not self.deliveries.acked(member, seq, self.now, process=process)
        elif answer == "nack":
            self.deliveries.nacked(member, seq, 0.0, {}, self.now, final=True)
        else:
            self.deliveries.returned(member, seq, self.now, 1.0)
        self.do()

    @rule(member=MEMBERS)
    def retire(self, member):
        self.grant(member, -(10**9))
        self.do()

    @precondition(lambda self: self.journal)
    @rule(data=st.data())
    def rewind(self, data):
        done = {*self.handled, *self.buried}
        cursor = data.draw(st.integers(0, next(seq for seq in range(len(self.journal) + 1) if seq + 1 not in done)))
        self.is_mixed = True
        self.handled = [seq for seq in self.handled if seq <= cursor]
        self.buried = {seq: bury for seq, bury in self.buried.items() if seq <= cursor}
        self.deliveries.rewound(cursor)
        self.do()

    @precondition(lambda self: self.buried)
    @rule(data=st.data())
    def requeue(self, data):
        seq = data.draw(st.sampled_from(sorted(self.buried)))
        self.is_mixed = True
        self.requeued += 1
        self.deliveries.requeued([self.buried.pop(seq).event])
        self.do()

    @precondition(lambda self: self.sends)
    @rule(data=st.data(), answer=st.sampled_from(["ack", "ack", "nack", "final", "return"]))
    def answer(self, data, answer):
        sent = data.draw(st.sampled_from(self.sends))
        member, seq = sent.member, sent.event.seq
        self.hear(member)
        if answer == "ack":
            if self.deliveries.acked(member, seq, self.now):
                assert seq not in self.handled and seq not in self.buried
                self.handled.append(seq)
                self.in_flight.pop(seq, None)
        elif answer == "return":
            self.deliveries.returned(member, seq, self.now)
        else:
            self.deliveries.nacked(member, seq, None, {"value": "no"}, self.now, final=answer == "final")
        if answer != "ack" and self.in_flight.get(seq) == member:
            del self.in_flight[seq]
        self.grant(member, 1)
        self.do()

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds
        self.do()

    @invariant()
    def memory_is_bounded(self):
        if hasattr(self, "deliveries"):
            assert self.deliveries.in_memory <= self.deliveries._window + self.requeued

    def teardown(self):
        """Now everything works: all that is not handled comes, in order as far as it can."""
        if not hasattr(self, "deliveries"):
            return
        for member in sorted(self.members):
            self.deliveries.left(member, self.now)
        self.members = {"last"}
        self.credit, self.in_flight, self.heard = {}, {}, {"last": self.now}
        self.deliveries.joined("last", self.now)
        for _ in range(2000):
            if len(self.handled) + len(self.buried) == len(self.journal):
                break
            self.sends.clear()
            self.grant("last", 1)
            self.do()
            if self.loads:
                self._load()
            for sent in self.sends:
                if self.deliveries.acked("last", sent.event.seq, self.now):
                    self.handled.append(sent.event.seq)
                    self.in_flight.pop(sent.event.seq, None)
            self.now = max(self.now, self.deliveries.next_at(self.now) or self.now)
        assert sorted([*self.handled, *self.buried]) == [event.seq for event in self.journal]
        assert self.deliveries.in_flight == 0 and self.deliveries.in_memory == 0

    def _load(self):
        load, done = self.loads.pop()
        events = [e for e in self.journal[load.after :] if e.seq not in done][: load.limit]
        to_seq = events[-1].seq if events else len(self.journal)
        self.deliveries.loaded(Page(tuple(events), to_seq, to_seq == len(self.journal)))


Mesh.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
TestMesh = Mesh.TestCase


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(0, 10))
def test_what_is_acknowledged_is_a_cursor_and_ranges(seqs, cursor):
    acked = Acknowledged(cursor)
    known = set(range(cursor + 1))
    for seq in seqs:
        acked.add(seq, seq + seq % 3)
        known.update(range(seq, seq + seq % 3 + 1))

    assert [seq for seq in range(80) if seq in acked] == sorted(known)
    assert acked.cursor + 1 not in known and set(range(acked.cursor + 1)) <= known
    ranges = acked.ranges()
    assert all(last + 1 < first for (_, last), (first, _) in zip(ranges, ranges[1:], strict=False))
    for low in range(1, 70, 3):
        for high in (low, low + 1, low + 5):
            assert acked.covers(low, high) == (set(range(low, high + 1)) <= known)
            assert acked.touches(low, high) == bool(set(range(low, high + 1)) & known)
