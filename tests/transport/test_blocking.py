"""What interrupts the thread that polls does not make sockets deaf."""

import threading

import pytest
import zmq

from zmqservices.transport.blocking import BlockingReactor
from zmqservices.transport.reactor import Completion, Reentered
from zmqservices.utils.native_threads import allocate_lock


class Ear:
    """Hears what comes to a PULL socket; the first time something else may happen."""

    def __init__(self, context, happens=None):
        self.socket = context.socket(zmq.PULL)
        self.socket.linger = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.mouth = context.socket(zmq.PUSH)
        self.mouth.linger = 0
        self.mouth.connect(f"tcp://127.0.0.1:{port}")
        self.happens = happens
        self.on_batch_end = []

    def drain(self):
        happens, self.happens = self.happens, None
        if happens is not None:
            raise happens
        try:
            while True:
                self.on_batch_end.append(self.socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            return False


@pytest.fixture
def reactor():
    reactor = BlockingReactor()
    yield reactor
    reactor.close()


def in_a_thread(work):
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(work()), daemon=True)
    thread.start()
    thread.join(20)
    return outcome[0]


@pytest.mark.parametrize("happens", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_every_socket_heard(reactor, happens):
    with zmq.Context() as context:
        ears = [Ear(context), Ear(context, happens), Ear(context)]
        try:
            watches = [reactor.watch(ear) for ear in ears]
            for ear in ears:
                ear.mouth.send(b"hello")
                # It has noticed: the descriptor tells no more.
                assert ear.socket.poll(5_000)
            for _ in range(2):
                try:
                    reactor.run(reactor._poll, 0.0)
                except KeyboardInterrupt:
                    assert happens is KeyboardInterrupt

            assert [ear.on_batch_end for ear in ears] == [[b"hello"]] * 3
            for watch in watches:
                watch.close()
        finally:
            for ear in ears:
                ear.socket.close()
                ear.mouth.close()


class Interrupted:
    """A lead that is taken, or let go, at the moment at which Ctrl-C comes."""

    def __init__(self, lead, *moments):
        self.lead = lead
        self.moments = moments
        self.is_over = False

    def __getattr__(self, name):
        return getattr(self.lead, name)

    def _interrupt(self, moment):
        if moment in self.moments and not self.is_over:
            self.is_over = True
            raise KeyboardInterrupt

    def acquire(self, *args):
        taken = self.lead.acquire(*args)
        self._interrupt("taken")
        return taken

    def release(self):
        self.lead.release()
        self._interrupt("let go")


@pytest.mark.parametrize("moment", ["taken", "let go"])
def test_an_interruption_as_the_lead_changes_hands_leaves_it_to_others(reactor, moment):
    reactor._lead = Interrupted(reactor._lead, moment)

    with pytest.raises(KeyboardInterrupt):
        reactor.run(int)

    assert in_a_thread(lambda: reactor.run(int)) == 0


@pytest.mark.parametrize("moment", ["taken", "let go"])
def test_an_interruption_of_the_leader_leaves_nobody_behind(reactor, moment):
    completion = Completion()
    reactor._followers.append(follower := allocate_lock())
    follower.acquire()
    reactor._lead = Interrupted(reactor._lead, moment)

    def answered():
        completion.stage = 1

    reactor.call_later(0.0, answered)
    with pytest.raises(KeyboardInterrupt):
        reactor.park(completion, 1)

    assert not follower.locked()


def test_the_thread_that_leads_cannot_come_in_again(reactor):
    with pytest.raises(Reentered):
        reactor.run(reactor.run, int)
    with pytest.raises(Reentered):
        reactor.run(reactor.park, Completion(), 1)


def test_a_thread_that_waits_for_the_leader_cannot_come_in_again(reactor):
    # While another thread leads.
    enter, leave = threading.Event(), threading.Event()

    def lead():
        enter.set()
        leave.wait(20)

    leader = threading.Thread(target=reactor.run, args=(lead,))
    leader.start()
    assert enter.wait(20)

    class Interrupting(Completion):
        """Where a signal handler comes between two steps of whoever waits."""

        refused = False

        @property
        def stage(self):
            if reactor._followers and not self.refused:
                for again in (lambda: reactor.run(int), lambda: reactor.park(Completion(), 1)):
                    with pytest.raises(Reentered):
                        again()
                self.refused = True
            return int(self.refused)

        @stage.setter
        def stage(self, stage):
            pass

    try:
        completion = Interrupting()
        reactor.park(completion, 1)
        assert completion.refused
    finally:
        leave.set()
        leader.join(20)
    assert reactor.run(int) == 0
