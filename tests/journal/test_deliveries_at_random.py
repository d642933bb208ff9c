"""Whatever happens to members and answers: nothing is lost, nothing is done twice, keys keep their order."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zmqservices.journal import Bury, Deliveries, Load, Page, Send, StoredEvent
from zmqservices.journal.acknowledged import Acknowledged

MEMBERS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from([None, "x", "y"])


class Mesh(RuleBasedStateMachine):
    """A journal, members that come, go, fall silent and fail, and answers that come late or twice."""

    @initialize(window=st.integers(2, 20), max_deliveries=st.integers(0, 4), chance=st.floats(0, 1))
    def start(self, window, max_deliveries, chance):
        self.now = 0.0
        self.max_deliveries = max_deliveries
        self.deliveries = Deliveries(
            0, window=window, max_deliveries=max_deliveries, ack_wait=10.0, random=lambda: chance
        )
        self.journal = []
        self.loads = []
        self.sends = []
        self.handled = []
        self.buried = {}
        self.members = set()

    def do(self):
        for action in self.deliveries.due(self.now):
            if isinstance(action, Load):
                self.loads.append(action)
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
        if action.event.key is not None:
            earlier = {e.seq for e in self.journal if e.key == action.event.key and e.seq < action.event.seq}
            assert earlier <= {*self.handled, *self.buried}
        self.sends.append(action)

    @rule(key=KEYS, n=st.integers(1, 5))
    def append(self, key, n):
        for _ in range(n):
            seq = len(self.journal) + 1
            self.journal.append(StoredEvent(seq, seq - 1, self.now, "t", b"", None, key, "o"))
        self.deliveries.appended(len(self.journal))
        self.do()

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
        self.deliveries.joined(member, self.now)
        self.deliveries.granted(member, credit, self.now)
        self.do()

    @rule(member=MEMBERS)
    def leave(self, member):
        self.members.discard(member)
        self.deliveries.left(member, self.now)
        self.do()

    @precondition(lambda self: self.sends)
    @rule(data=st.data(), answer=st.sampled_from(["ack", "ack", "nack", "final", "return"]))
    def answer(self, data, answer):
        sent = data.draw(st.sampled_from(self.sends))
        member, seq = sent.member, sent.event.seq
        if answer == "ack":
            if self.deliveries.acked(member, seq, self.now):
                assert seq not in self.handled and seq not in self.buried
                self.handled.append(seq)
        elif answer == "return":
            self.deliveries.returned(member, seq, self.now)
        else:
            self.deliveries.nacked(member, seq, None, {"value": "no"}, self.now, final=answer == "final")
        self.deliveries.granted(member, 1, self.now)
        self.do()

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds
        self.do()

    @invariant()
    def memory_is_bounded(self):
        if hasattr(self, "deliveries"):
            assert self.deliveries.in_memory <= self.deliveries._window

    def teardown(self):
        """Now everything works: all that is not handled comes, in order as far as it can."""
        if not hasattr(self, "deliveries"):
            return
        for member in sorted(self.members):
            self.deliveries.left(member, self.now)
        self.members = {"last"}
        self.deliveries.joined("last", self.now)
        for _ in range(10_000):
            if len(self.handled) + len(self.buried) == len(self.journal):
                break
            self.sends.clear()
            self.deliveries.granted("last", 1, self.now)
            self.do()
            if self.loads:
                self._load()
            for sent in self.sends:
                if self.deliveries.acked("last", sent.event.seq, self.now):
                    self.handled.append(sent.event.seq)
            self.now = max(self.now, self.deliveries.next_at(self.now) or self.now)
        assert sorted([*self.handled, *self.buried]) == [event.seq for event in self.journal]
        assert self.deliveries.in_flight == 0 and self.deliveries.in_memory == 0

    def _load(self):
        load = self.loads.pop()
        events = [e for e in self.journal[load.after :] if e.seq not in self.handled][: load.limit]
        to_seq = events[-1].seq if events else len(self.journal)
        self.deliveries.loaded(Page(tuple(events), to_seq, to_seq == len(self.journal)))


Mesh.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
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
