"""Large frames are sent as they lie in memory, and let go of once they have left, also where gevent has patched the threads."""

import ctypes
import subprocess
import sys
import textwrap

import pytest
import zmq
from zmq.utils import garbage

from tests.system.processes import eventually
from zmqservices.transport import uncopied
from zmqservices.transport.uncopied import UNCOPIED

LARGE = b"x" * UNCOPIED


def kept():
    """How many frames wait for ZeroMQ to be done with them."""
    return len(garbage.gc.refs)


def address(buffer):
    """Where the content of a buffer lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


@pytest.fixture
def ends():
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender, context.socket(zmq.PULL) as receiver:
        for socket in (sender, receiver):
            socket.linger = 0
        sender.connect(f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}")
        yield sender, receiver


def test_what_is_short_is_copied():
    assert uncopied.frame(LARGE[1:]) == LARGE[1:]
    assert type(uncopied.frame(LARGE[1:])) is bytes


def test_what_is_large_is_read_where_it_is():
    frame = uncopied.frame(LARGE)

    assert type(frame) is zmq.Frame
    assert len(frame) == UNCOPIED
    # The content of a bytes object ends where the object does, but for a zero.
    assert address(frame) == id(LARGE) + sys.getsizeof(LARGE) - UNCOPIED - 1


def test_it_is_kept_until_it_was_sent_and_no_longer(ends):
    sender, receiver = ends
    eventually(lambda: kept() == 0)

    for number in range(20):
        sender.send(uncopied.frame(bytes([number]) * UNCOPIED))
    assert [receiver.recv()[:1] for _ in range(20)] == [bytes([number]) for number in range(20)]

    eventually(lambda: kept() == 0, what="all are let go of")


def test_one_that_is_never_sent_is_let_go_of(ends):
    eventually(lambda: kept() == 0)

    frames = [uncopied.frame(LARGE) for _ in range(3)]
    assert kept() == 3
    del frames

    eventually(lambda: kept() == 0)


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


ECHO = """
import gevent, zmq
from zmq.utils import garbage
from zmqservices.transport import uncopied
from zmqservices.transport.uncopied import UNCOPIED

context = zmq.Context()
sender, receiver = context.socket(zmq.PUSH), context.socket(zmq.PULL)
sender.connect(f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}")

def send(count):
    for number in range(count):
        sender.send(uncopied.frame(bytes([number]) * UNCOPIED))
        assert receiver.recv() == bytes([number]) * UNCOPIED

def wait_until_all_are_let_go():
    turns = 0
    with gevent.Timeout(20):
        while garbage.gc.refs:
            gevent.sleep(0.001)
            turns += 1
    return turns
"""


def test_in_a_patched_process_it_is_let_go_of_and_the_hub_turns():
    assert run(
        "from gevent import monkey; monkey.patch_all()"
        + ECHO
        + """
send(1)
wait_until_all_are_let_go()
ticks = []
def tick():
    while len(ticks) < 10:
        ticks.append(gevent.sleep(0))
ticker = gevent.spawn(tick)
send(50)
ticker.join()
wait_until_all_are_let_go()
print(len(ticks), type(garbage.gc).__name__)
"""
    ) == (0, "10 _Collector\n", "")


def test_its_thread_has_no_hub_of_its_own():
    # To make one imports modules, which two threads of a patched process may not do at the same time.
    assert run(
        "from gevent import monkey; monkey.patch_all()"
        + ECHO
        + """
import gc
gevent.get_hub()
send(3)
wait_until_all_are_let_go()
print([type(one).__name__ for one in gc.get_objects() if isinstance(one, gevent.hub.Hub)])
"""
    ) == (0, "['Hub']\n", "")


def test_a_process_that_is_patched_late_keeps_the_thread_that_it_has():
    code, output, _ = run(
        ECHO
        + """
send(1)
from gevent import monkey; monkey.patch_all()
send(20)
wait_until_all_are_let_go()
print(type(garbage.gc).__name__)
"""
    )

    # Python complains of any thread that is older than the patch.
    assert (code, output) == (0, "GarbageCollector\n")


either_way = pytest.mark.parametrize(
    "patch", ["", "from gevent import monkey; monkey.patch_all()"], ids=["plain", "patched"]
)


@either_way
def test_threads_that_begin_together_share_one_collector(patch):
    assert run(
        patch
        + ECHO
        + """
from zmqservices.utils.native_threads import allocate_lock, start_thread

frames, gate = [], allocate_lock()

def make():
    with gate:
        pass
    frames.append(uncopied.frame(bytes(UNCOPIED)))

gate.acquire()
for _ in range(8):
    start_thread(make)
gate.release()
with gevent.Timeout(20):
    while len(frames) < 8:
        gevent.sleep(0.001)
print({type(frame).__name__ for frame in frames}, len(garbage.gc.refs))
frames.clear()
wait_until_all_are_let_go()
"""
    ) == (0, "{'Frame'} 8\n", "")


@either_way
def test_a_process_ends_with_frames_that_nobody_has_read(patch):
    assert run(
        patch
        + ECHO
        + """
for _ in range(50):
    sender.send(uncopied.frame(bytes(UNCOPIED)))
print("over")
sender.close(linger=0)
receiver.close(linger=0)
context.term()
"""
    ) == (0, "over\n", "")


def test_while_the_interpreter_goes_down_frames_are_copied():
    assert run(
        """
import atexit, zmq

def late():
    frame = uncopied.frame(bytes(UNCOPIED))
    print(type(frame).__name__)

atexit.register(late)  # Runs after pyzmq's own, which is registered below.
from zmqservices.transport import uncopied
from zmqservices.transport.uncopied import UNCOPIED
"""
    ) == (0, "bytes\n", "")


@either_way
def test_what_is_under_way_when_a_process_ends_arrives_as_it_was(patch):
    with zmq.Context() as context, context.socket(zmq.PULL) as receiver:
        receiver.linger = 0
        receiver.rcvhwm = 1
        receiver.rcvbuf = 100_000
        port = receiver.bind_to_random_port("tcp://127.0.0.1")
        program = f"""
            import atexit, ctypes, time

            ctypes.CDLL(None).mallopt(-3, 33554432)  # As services do: what is freed stays in the heap.

            def late():
                # Whatever was freed is used again.
                rubbish = [b"r" * 1_000_000 for _ in range(100)]
                print("late", flush=True)
                time.sleep(1)

            atexit.register(late)  # Runs after all that are registered below.
            {patch}
            import zmq
            from zmqservices.transport import uncopied

            context = zmq.Context()
            sender = context.socket(zmq.PUSH)
            sender.connect("tcp://127.0.0.1:{port}")
            for number in range(40):
                sender.send(uncopied.frame(bytes([number]) * 1_000_000))
            """
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout.readline() == "late\n"
            numbers = []
            while receiver.poll(1_000 if child.poll() is None else 100):
                blob = receiver.recv()
                assert blob == blob[:1] * 1_000_000
                numbers.append(blob[0])

            assert numbers and numbers == list(range(len(numbers)))
            assert (child.wait(20), child.stderr.read()) == (0, "")
