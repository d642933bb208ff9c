"""Random reading by peers: no unread byte is left out of the count, messages keep their order, and all of them leave."""

from collections import deque
from types import SimpleNamespace
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.at_random import examples
from zmqservices.cluster.calls import cork as cork_module
from zmqservices.cluster.calls import flow_control, send_queue
from zmqservices.cluster.calls.cork import Cork
from zmqservices.cluster.calls.flow_control import ASKS_AGAIN, FlowControlWindow, InFlightTotal
from zmqservices.cluster.calls.send_queue import OVERHEAD, QueuedTotal, SendQueue
from zmqservices.cluster.events import publisher_link
from zmqservices.cluster.events.publisher_link import PublisherLink
from zmqservices.transport import Sent

NODES = st.integers(0, 2)


class Node:
    """A peer as a sender knows it, and what is between the two."""

    def __init__(self, in_flight, queued):
        self.window, self.queue = FlowControlWindow(in_flight), SendQueue(queued)
        #: What it has not read: sizes of messages, and tokens of PINGs as tuples.
        self.unread = deque()
        self.sent = self.added = self.read = 0

    @property
    def unread_bytes(self):
        return sum(size for size in self.unread if type(size) is int)


class Sender(RuleBasedStateMachine):
    """Large messages to three nodes, each with a window, and one bound for all; PONGs may be lost."""

    def __init__(self):
        super().__init__()
        self.patch = patch.multiple(flow_control, WINDOW=100, ALL_WINDOWS=200)
        self.patch.start()
        self.total = InFlightTotal()
        self.nodes = [Node(self.total, None) for _ in range(3)]
        self.now, self.tokens = 0.0, 0

    def ask_if_need_be(self, node):
        if node.window.wants_to_ask(self.now):
            self.tokens += 1
            node.window.asked(self.tokens, self.now)
            node.unread.append((self.tokens,))

    @rule(number=NODES, size=st.integers(1, 150))
    def send(self, number, size):
        node = self.nodes[number]
        if not node.window.is_full:
            node.window.sent(size)
            node.unread.append(size)
        self.ask_if_need_be(node)

    @rule(number=NODES, most=st.integers(1, 5), is_lost=st.booleans())
    def read(self, number, most, is_lost):
        node = self.nodes[number]
        for _ in range(min(most, len(node.unread))):
            found = node.unread.popleft()
            if type(found) is tuple and not is_lost:
                node.window.answered(found[0])

    @rule(number=NODES, token=st.integers(0, 100))
    def answer_what_was_not_asked(self, number, token):
        others = [own for other in self.nodes if other is not self.nodes[number] for own in other.unread]
        if (token,) in others:
            assert not self.nodes[number].window.answered(token)

    @rule(number=NODES)
    def lose_the_connection(self, number):
        self.nodes[number].window.close()
        self.nodes[number] = Node(self.total, None)

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds):
        self.now += seconds
        for node in self.nodes:
            self.ask_if_need_be(node)

    @invariant()
    def totals_agree(self):
        assert self.total.bytes == sum(node.window.in_flight for node in self.nodes)
        assert self.total.nodes == sum(node.window.in_flight > 0 for node in self.nodes)

    @invariant()
    def what_is_unread_is_in_flight(self):
        for node in self.nodes:
            assert node.window.in_flight >= node.unread_bytes
            # A window takes one message beyond its size at most.
            assert node.unread_bytes < 100 + 150

    def teardown(self):
        # Whoever reads everything, and whose answers arrive from now on, can be sent to again.
        for _ in range(3):
            self.now += ASKS_AGAIN
            for node in self.nodes:
                self.ask_if_need_be(node)
                while node.unread:
                    found = node.unread.popleft()
                    if type(found) is tuple:
                        node.window.answered(found[0])
        assert not any(node.window.is_full for node in self.nodes)
        self.patch.stop()


class Queues(RuleBasedStateMachine):
    """Messages that wait for three nodes: they leave in their order, once, and their bytes are those that are counted."""

    def __init__(self):
        super().__init__()
        self.patch = patch.multiple(send_queue, LONGEST_SEND_QUEUE=1000, ALL_SEND_QUEUES=2000)
        self.patch.start()
        self.total = QueuedTotal()
        self.nodes = [Node(None, self.total) for _ in range(3)]

    def teardown(self):
        self.patch.stop()

    @rule(number=NODES, size=st.integers(1, 400), has_payload=st.booleans())
    def add(self, number, size, has_payload):
        node = self.nodes[number]
        text = b"%d " % node.added
        node.queue.add((text, bytes(size)) if has_payload else text + bytes(size))
        node.unread.append(size + len(text))
        node.added += 1

    @rule(number=NODES, room=st.integers(0, 5), otherwise=st.sampled_from([sent for sent in Sent if sent is not Sent.TAKEN]))
    def hand_on(self, number, room, otherwise):
        node, left = self.nodes[number], [room]

        def send(frames):
            if not left[0]:
                return otherwise
            left[0] -= 1
            body = frames[0] if type(frames) is tuple else frames
            assert int(body.split()[0].rstrip(b"\0")) == node.read
            node.read += 1
            node.unread.popleft()
            return Sent.TAKEN

        sent = node.queue.hand_on(send)

        assert sent is (otherwise if node.unread else Sent.TAKEN)

    @rule(number=NODES)
    def clear(self, number):
        self.nodes[number].queue.clear()
        self.nodes[number] = Node(None, self.total)

    @invariant()
    def bytes_agree(self):
        for node in self.nodes:
            assert node.queue.bytes == node.unread_bytes + OVERHEAD * len(node.unread)
            assert node.queue.is_too_long is (node.queue.bytes > 1000)
        assert self.total.bytes == sum(node.queue.bytes for node in self.nodes)
        assert self.total.is_too_much is (self.total.bytes > 2000)


class Credit(RuleBasedStateMachine):
    """Events of three journals on one link, within their credit and beyond it."""

    CREDIT, ROOM = 3, 100

    def __init__(self):
        super().__init__()
        self.patch = patch.object(publisher_link, "ROOM", self.ROOM)
        self.patch.start()
        self.link = PublisherLink(SimpleNamespace(), "host")
        self.in_hand = []

    def teardown(self):
        self.patch.stop()

    @rule(origin=st.sampled_from("abc"), size=st.integers(0, 80))
    def event(self, origin, size):
        event = SimpleNamespace(origin=origin, body=bytes(size))
        held = [each for each in self.in_hand if each.origin == origin]
        may = self.link.may_take(event, self.CREDIT)
        # One journal alone within its credit is never refused, and none is ever beyond it.
        assert may or len(held) >= self.CREDIT or len(held) < len(self.in_hand)
        assert not may or len(held) < self.CREDIT
        if may:
            self.link.add(event)
            self.in_hand.append(event)

    @rule(chance=st.randoms(use_true_random=False))
    def answer(self, chance):
        if self.in_hand:
            self.link.remove(self.in_hand.pop(chance.randrange(len(self.in_hand))))

    @rule()
    def lose_the_link(self):
        self.link.clear()
        self.in_hand.clear()

    @invariant()
    def sums_agree(self):
        link = self.link
        assert link.in_hand == len(self.in_hand) == sum(link.journals.values())
        assert link.bytes == sum(len(event.body) for event in self.in_hand)
        assert all(0 < count <= self.CREDIT for count in link.journals.values())
        assert link.bytes <= self.ROOM + self.CREDIT * 80


class Held(RuleBasedStateMachine):
    """A cork in batches and in turns: what is held leaves once and in its order, and at the end of a turn nothing is held."""

    def __init__(self):
        super().__init__()
        self.now, self.numbers, self.left, self.deferred = 1.0, 0, [], []
        self.cork = Cork(self.pour, self.deferred.append, lambda: self.now)
        self.is_in_batch = False

    def pour(self, items):
        assert 0 < len(items) <= cork_module.MOST
        self.left += items

    def send(self):
        """As callers do: held if it may be, or handed on behind what is held."""
        may_hold = self.cork.is_in if self.is_in_batch else self.cork.join(self.now)
        if may_hold:
            self.cork.hold(self.numbers, self.now)
        else:
            self.cork.release()
            self.left.append(self.numbers)
        self.numbers += 1

    @rule(count=st.integers(1, 40), took=st.sampled_from([0.0, 0.0001, 0.0005, 0.002, 0.1]))
    def batch(self, count, took):
        self.is_in_batch = True
        self.cork.begin(self.now)
        for _ in range(count):
            self.send()
            self.now += took
        self.cork.end()
        self.is_in_batch = False
        assert self.left == list(range(self.numbers))

    @rule(count=st.integers(1, 40), took=st.sampled_from([0.0, 0.0001, 0.002]))
    def turn(self, count, took):
        for _ in range(count):
            self.send()
            self.now += took
        for callback in self.deferred:
            callback()
        self.deferred.clear()
        assert self.left == list(range(self.numbers))

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def nothing_overtakes(self):
        assert self.left == list(range(len(self.left)))


for machine in (Sender, Queues, Credit, Held):
    machine.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=30, deadline=None)
TestSender, TestQueues, TestCredit, TestHeld = (machine.TestCase for machine in (Sender, Queues, Credit, Held))
