"""Random nodes and links: a call ends once and in time, only runs twice if it may, and an error says whether it ran."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.at_random import examples
from tests.cluster.calls.world import Calling
from zmqservices.cluster.calls.call import DONE
from zmqservices.cluster.calls.refusals import refusal
from zmqservices.cluster.calls.sweep import SWEEP_INTERVAL
from zmqservices.exceptions import MaybeExecuted, RemoteUnavailable, RpcTimeout
from zmqservices.wire.messages import Call, Error

NODES = st.integers(0, 2)
METHODS = {"look": {"idempotent": True}, "spend": {"idempotent": False}}


class Node:
    """A node at the other end of a link: calls that it has received wait until they run, are refused or are lost."""

    def __init__(self, link):
        self.link = link
        self.is_connected = True
        self._read = 0
        self.waiting = []

    def receive(self):
        sent, self._read = self.link.sent[self._read :], len(self.link.sent)
        self.waiting += [message.id for message in sent if type(message) is Call]


class Caller(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.calling = Calling()
        self.nodes = [Node(self.calling.add_instance(name, **METHODS)) for name in ("one", "two", "three")]
        self.calls = {}
        self.ran = Counter()

    @property
    def now(self):
        return self.calling.reactor.now

    @rule(method=st.sampled_from(["look", "spend"]), timeout=st.sampled_from([0.2, 1.0, 5.0]))
    def begin(self, method, timeout):
        call = self.calling.begin(method=method, timeout=timeout)
        self.calls[call.id] = (call, method, self.now + timeout)

    def received(self, node):
        node.receive()
        return node.waiting.pop(0) if node.waiting else None

    @rule(number=NODES, is_answered=st.booleans())
    def run_one(self, number, is_answered):
        node = self.nodes[number]
        id = self.received(node)
        if id is not None:
            self.ran[id] += 1
            if is_answered and node.is_connected:
                node.link.answer(self.calls[id][0], id)

    @rule(number=NODES, code=st.sampled_from(["draining", "overloaded", "unknown-service"]))
    def refuse_one(self, number, code):
        node = self.nodes[number]
        id = self.received(node)
        if id is not None and node.is_connected:
            node.link.say(Error(id, refusal(code, "no")))

    @rule(number=NODES)
    def answer_what_is_over(self, number):
        node = self.nodes[number]
        for call, _, _ in self.calls.values():
            if call.stage == DONE and node.is_connected:
                node.link.say(Error(call.id, refusal("overloaded", "again")))

    @rule(number=NODES, run=st.integers(0, 3))
    def lose_the_link(self, number, run):
        node = self.nodes[number]
        if node.is_connected:
            node.receive()
            # Some of what was under way arrives all the same.
            self.ran.update(node.waiting[:run])
            node.waiting.clear()
            node.is_connected = False
            node.link.listener.on_disconnect()
            self.calling.reactor.turn()

    @rule(number=NODES)
    def connect_again(self, number):
        node = self.nodes[number]
        if not node.is_connected:
            node.receive()
            node.waiting.clear()
            node.is_connected = True
            node.link.greet()
            self.calling.reactor.turn()

    @rule(number=NODES, has_room=st.booleans())
    def fill_the_link(self, number, has_room):
        self.nodes[number].link.has_room = has_room

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 2.0]))
    def wait(self, seconds):
        self.calling.reactor.wind(seconds)

    @invariant()
    def no_call_outlives_its_deadline(self):
        for call, _, deadline in self.calls.values():
            assert call.stage == DONE or self.now <= deadline + 2 * SWEEP_INTERVAL

    @invariant()
    def what_may_not_run_twice_does_not(self):
        for id, (_, method, _) in self.calls.items():
            assert method == "look" or self.ran[id] <= 1

    def teardown(self):
        for node in self.nodes:
            # What is still on its way arrives.
            node.receive()
            if node.is_connected:
                self.ran.update(node.waiting)
        self.what_may_not_run_twice_does_not()
        self.calling.reactor.wind(60.0)
        assert set(self.calling.reactor.woken) == {call for call, _, _ in self.calls.values()}
        assert not self.calling.caller._pending
        for id, (call, method, _) in self.calls.items():
            try:
                assert call.outcome() == id and self.ran[id]
            except (RpcTimeout, MaybeExecuted):
                pass
            except RemoteUnavailable:
                # It was refused, or never sent. One that may be repeated may have been lost once before.
                assert method == "look" or not self.ran[id]


Caller.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
TestCaller = Caller.TestCase
