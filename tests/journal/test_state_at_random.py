"""Random appends, acknowledgements, drops and restarts: a group gets each unhandled event, or a gap that reports it as lost."""

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.at_random import examples
from zmqservices.journal import Group, LostRange, NewEvent
from zmqservices.journal.journal_state import JournalState
from zmqservices.journal.retention import Bounds, Retention
from zmqservices.journal.store import Store

PATTERNS = {"all": "#", "some": "a.*", "one": "a.b", "other": "c"}
TYPES = st.sampled_from(["a.b", "a.c", "c", "d"])
NAMES = st.sampled_from(sorted(PATTERNS))


class Keeping(RuleBasedStateMachine):
    """One journal, four groups; `due` is what each of them has not handled, by the model."""

    @initialize(drops=st.booleans())
    def start(self, drops):
        self.folder = Path(tempfile.mkdtemp())
        self.bounds = Bounds(max_bytes=1500, retention=0.0, drops_oldest=drops)
        self.now = 1000.0
        self.types = {}
        self.due = {}
        self.positions = {}
        #: Acknowledged, but maybe not on disk.
        self.unsure = {}
        self.open()

    def open(self):
        self.store = Store(self.folder / "x.journal", "normal")
        # Nobody cuts the power here: so many files need not wait for the disk.
        self.store._db.execute("PRAGMA synchronous = OFF")
        self.state = JournalState(self.store, lambda: self.now)
        self.state.start()
        self.retention = Retention(self.state, self.bounds, lambda notice: None)
        self.positions = {}

    @rule(name=NAMES)
    def ensure(self, name):
        cursor = self.state.ensure(Group(name, PATTERNS[name]))
        self.positions.setdefault(name, cursor)
        self.due.setdefault(name, set())
        self.unsure.setdefault(name, set())

    @rule(types=st.lists(TYPES, min_size=1, max_size=6))
    def append(self, types):
        wanted = 120 * len(types) + 200
        with self.dropping():
            room = self.retention.room(wanted)
        if room < wanted:
            return
        first = self.state.commit([NewEvent(t, b"x" * 50) for t in types])
        for seq, event_type in enumerate(types, first):
            assert seq not in self.types
            self.types[seq] = event_type
            for name in self.due:
                if self.state.groups[name].wants(event_type):
                    self.due[name].add(seq)

    @precondition(lambda self: self.due)
    @rule(data=st.data(), limit=st.integers(1, 20), handles=st.integers(0, 3))
    def fetch(self, data, limit, handles):
        name = data.draw(st.sampled_from(sorted(self.positions) or sorted(self.due)))
        if name not in self.positions:
            self.ensure(name)
        page = self.state.fetch(name, self.positions[name], limit, 1 << 20)
        self.positions[name] = page.to_seq
        for item in page.items:
            if isinstance(item, LostRange):
                self.told(name, item)
            else:
                assert item.type == self.types[item.seq] and item.seq in self.due[name]
        events = [item.seq for item in page.items if not isinstance(item, LostRange)]
        for seq in data.draw(st.lists(st.sampled_from(events), max_size=10) if events else st.just([])):
            self.handle(name, seq)

    def told(self, name, gap):
        lost = {seq for seq in self.due[name] if gap.from_seq <= seq <= gap.to_seq}
        # After a crash it may say more than is true, for what was handled just before.
        sure = lost - self.unsure[name]
        assert len(sure) <= gap.events <= len(lost | {s for s in self.unsure[name] if gap.from_seq <= s <= gap.to_seq})
        self.state.acknowledge(name, gap.seq)
        self.due[name] -= lost
        self.unsure[name] |= lost

    def handle(self, name, seq):
        self.state.acknowledge(name, seq)
        self.due[name].discard(seq)
        self.unsure[name].add(seq)

    @rule()
    def flush(self):
        self.state.flush()
        for seqs in self.unsure.values():
            seqs.clear()

    @rule(seconds=st.floats(0, 10))
    def sweep(self, seconds):
        self.now += seconds
        with self.dropping():
            self.retention.sweep()

    @contextmanager
    def dropping(self):
        first = self.state.first_seq
        yield
        if self.state.first_seq != first:
            # How the groups stand is written down with it.
            self.unsure = {name: set() for name in self.due}

    @rule()
    def crash(self):
        self.store.close()
        for name, seqs in self.unsure.items():
            self.due[name] |= seqs & set(self.types)
        self.open()

    @rule()
    def restart(self):
        self.flush()
        self.crash()

    def teardown(self):
        """In the end every group has seen, or was told of, all that it had not handled."""
        if not hasattr(self, "folder"):
            return
        self.restart()
        for name in self.due:
            due = set(self.due[name])
            assert self.state.groups[name].waiting <= len(due)
            position = self.state.ensure(Group(name, PATTERNS[name]))
            came = set()
            while True:
                page = self.state.fetch(name, position, 7, 1 << 20)
                for item in page.items:
                    if isinstance(item, LostRange):
                        came |= {seq for seq in due if item.from_seq <= seq <= item.to_seq}
                    else:
                        came.add(item.seq)
                    self.state.acknowledge(name, item.seq)
                position = page.to_seq
                if page.is_last:
                    break
            assert came >= due
            assert self.state.groups[name].acked.cursor == self.state.last_seq
        self.store.close()
        shutil.rmtree(self.folder)


Keeping.TestCase.settings = settings(max_examples=examples(80), stateful_step_count=40, deadline=None)
TestKeeping = Keeping.TestCase
