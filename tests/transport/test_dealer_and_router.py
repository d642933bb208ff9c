"""A dealer link and a router socket exchange messages over real sockets; one suite over both reactors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
import zmq

from zmqservices.exceptions import ConfigurationError
from zmqservices.transport import DealerLink, RouterSocket, Sent, SocketOptions, Sockets
from zmqservices.transport import dealer as dealer
from zmqservices.transport import router as router_module
from zmqservices.transport.blocking import BlockingReactor
from zmqservices.transport.hub import HubReactor
from zmqservices.transport.reactor import Completion


class Ears:
    """Listens to a link and writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.bodies: list[bytes] = []
        self.payloads: list[bytes | None] = []
        self.link: DealerLink | None = None

    def on_connect(self) -> None:
        self.told.append("linked")

    def unreachable(self) -> None:
        pass

    def on_disconnect(self) -> None:
        self.told.append("lost")

    def on_message(self, body: bytes) -> None:
        self.bodies.append(body)
        if body.startswith(b"large"):
            assert self.link is not None
            self.payloads.append(self.link.take_payload())

    def on_batch_end(self) -> None:
        pass


class Hosts:
    """Listens at a RouterSocket; its clients are their routing ids."""

    def __init__(self) -> None:
        self.heard_bodies: list[tuple[bytes, bytes]] = []
        self.connected: list[bytes] = []
        self.payloads: list[bytes | None] = []
        self.left = 0
        self.router: RouterSocket | None = None

    def on_connect(self, routing_id: bytes, address: str) -> bytes:
        self.connected.append(routing_id)
        return routing_id

    def on_message(self, client: bytes, body: bytes) -> None:
        self.heard_bodies.append((client, body))
        if body.startswith(b"large"):
            assert self.router is not None
            self.payloads.append(self.router.take_payload())

    def on_batch_end(self) -> None:
        pass

    def on_disconnect(self) -> None:
        self.left += 1


class Stand:
    """One reactor with its sockets, and a way to let it run until something is so."""

    def __init__(self, kind: str) -> None:
        self.reactor: Any = HubReactor() if kind == "hub" else BlockingReactor()
        self.sockets = Sockets(SocketOptions(heartbeat=0.2))
        self.owned: list[Any] = []

    def until(self, claim: Callable[[], bool], seconds: float = 30.0) -> None:
        completion = Completion()
        end = monotonic() + seconds
        held = False

        def look() -> None:
            nonlocal held
            held = claim()
            if held or monotonic() > end:
                completion.stage = 1
                self.reactor.wake((completion,))
            else:
                self.reactor.call_later(0.002, look)

        self.reactor.run(self.reactor.call_later, 0.0, look)
        self.reactor.park(completion, 1)
        assert held

    def router(self, address: str = "tcp://127.0.0.1:0") -> tuple[RouterSocket, Hosts]:
        hosts = Hosts()
        router = hosts.router = RouterSocket(self.reactor, self.sockets, address, hosts)
        self.owned.append(router)
        return router, hosts

    def link(self, endpoint: str) -> tuple[DealerLink, Ears]:
        ears = Ears()
        link = ears.link = DealerLink(self.reactor, self.sockets, endpoint, ears)
        self.owned.append(link)
        return link, ears

    def close(self) -> None:
        for owned in self.owned:
            owned.close()
        self.reactor.close()
        self.sockets.close()


@pytest.fixture(params=["hub", "blocking"])
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    stand = Stand(request.param)
    yield stand
    stand.close()


def test_a_message_goes_there_and_its_answer_comes_back(stand: Stand) -> None:
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])

    stand.until(lambda: link.send(b"hello"))
    stand.until(lambda: len(hosts.heard_bodies) == 1)
    client, body = hosts.heard_bodies[0]
    assert router.send(client, b"welcome") is Sent.TAKEN
    stand.until(lambda: ears.bodies == [b"welcome"])

    assert body == b"hello"
    assert hosts.connected == [client]


def test_a_payload_frame_is_taken_with_its_body(stand: Stand) -> None:
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])

    stand.until(lambda: link.send((b"large", b"x" * 300_000)))
    link.send(b"after")
    stand.until(lambda: len(hosts.heard_bodies) == 2)
    router.send(hosts.connected[0], (b"large too", b"y" * 300_000))
    router.send(hosts.connected[0], b"after")
    stand.until(lambda: len(ears.bodies) == 2)

    assert hosts.payloads == [b"x" * 300_000]
    assert [body for _, body in hosts.heard_bodies] == [b"large", b"after"]
    assert ears.payloads == [b"y" * 300_000]
    assert ears.bodies == [b"large too", b"after"]


def test_each_end_takes_notice_of_the_payloads_that_it_sends_and_gets(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = []
    for module in (dealer, router_module):
        monkeypatch.setattr(module, "note_large_message", lambda name=module.__name__: noted.append(name.rpartition(".")[2]))
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: link.send(b"hello"))
    stand.until(lambda: len(hosts.heard_bodies) == 1)
    assert noted == []

    link.send((b"large", b"x"))
    assert noted == ["dealer"]
    stand.until(lambda: len(hosts.payloads) == 1)
    assert noted == ["dealer", "router"]
    router.send(hosts.connected[0], (b"large too", b"y"))
    assert noted == ["dealer", "router", "router"]
    stand.until(lambda: len(ears.payloads) == 1)
    assert noted == ["dealer", "router", "router", "dealer"]


def test_nothing_is_sent_where_nobody_is_connected(stand: Stand) -> None:
    link, ears = stand.link("tcp://127.0.0.1:1")

    assert link.send(b"hello") is False


def test_a_lost_connection_is_told_and_comes_back(stand: Stand) -> None:
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])

    router.close(linger=0)
    stand.until(lambda: ears.told == ["linked", "lost"])
    again, _ = stand.router(router.endpoint)
    stand.until(lambda: ears.told == ["linked", "lost", "linked"])

    assert again.endpoint == router.endpoint


def test_the_router_says_when_a_client_disconnects_and_that_it_is_gone(stand: Stand) -> None:
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])
    stand.until(lambda: link.send(b"hello"))
    stand.until(lambda: hosts.connected != [])

    link.close()
    stand.until(lambda: hosts.left == 1)

    stand.until(lambda: router.send(hosts.connected[0], b"still there?") is Sent.GONE)


def test_stray_frames_do_not_shift_what_follows(stand: Stand) -> None:
    router, hosts = stand.router()
    raw = zmq.Context.instance().socket(zmq.DEALER)
    raw.linger = 0
    raw.routing_id = b"\x01" + bytes(16)
    raw.connect(router.endpoint)
    other, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])

    raw.send_multipart([b"one", b"stray"])
    raw.send_multipart([b"two", b"\0abcd", b"stray", b"stray", b"stray"])
    raw.send_multipart([b"", b""])
    raw.send(b"three")
    stand.until(lambda: any(body == b"three" for _, body in hosts.heard_bodies))
    stand.until(lambda: other.send(b"four"))
    stand.until(lambda: any(body == b"four" for _, body in hosts.heard_bodies))
    raw.close()

    by_guest: dict[bytes, list[bytes]] = {}
    for client, body in hosts.heard_bodies:
        by_guest.setdefault(client, []).append(body)
    assert [b"one", b"two", b"", b"three"] in by_guest.values()
    assert [b"four"] in by_guest.values()


def test_what_a_blocked_peer_sends_is_dropped_whatever_its_frames(stand: Stand) -> None:
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])
    stand.until(lambda: link.send(b"one"))
    stand.until(lambda: hosts.heard_bodies != [])
    [routing_id] = hosts.connected

    dropped: list[bytes] = []
    admit = router._admit

    def block() -> None:
        router.forget(routing_id)
        router.blocked.add(routing_id)
        router._admit = lambda id: (dropped.append(id), admit(id))  # type: ignore[method-assign, assignment]

    stand.reactor.run(block)
    for frames in (b"two", (b"", routing_id), b"three"):
        stand.until(lambda frames=frames: link.send(frames))  # type: ignore[misc]
    # The frame that looks like a routing id is one of them.
    stand.until(lambda: dropped == [routing_id] * 4)
    stand.reactor.run(router.blocked.clear)
    stand.until(lambda: link.send(b"four"))
    stand.until(lambda: len(hosts.heard_bodies) > 1)

    assert hosts.heard_bodies == [(routing_id, b"one"), (routing_id, b"four")]
    assert hosts.connected == [routing_id, routing_id]


def test_a_burst_larger_than_the_quota_arrives_whole_and_in_order(stand: Stand) -> None:
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])

    sent = 0
    for number in range(3000):
        sent += link.send(b"%d" % number)
    stand.until(lambda: len(hosts.heard_bodies) == sent)

    assert sent > 0
    assert [int(body) for _, body in hosts.heard_bodies] == list(range(sent))


def test_a_frozen_peer_is_noticed_by_the_heartbeat(stand: Stand) -> None:
    # A listening TCP socket that never answers the handshake is what a frozen process looks like.
    import socket

    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        link, ears = stand.link(f"tcp://127.0.0.1:{frozen.getsockname()[1]}")
        accepted, _ = frozen.accept()
        with accepted:
            assert link.send(b"hello") is False
    assert ears.told == []


def test_an_address_that_cannot_be_bound_is_quoted(stand: Stand) -> None:
    router, _ = stand.router()

    with pytest.raises(ConfigurationError, match=router.endpoint):
        RouterSocket(stand.reactor, stand.sockets, router.endpoint, Hosts())


def test_posts_from_other_threads_are_run(stand: Stand) -> None:
    from gevent.monkey import get_original

    on_batch_end: list[int] = []

    def from_elsewhere() -> None:
        for number in range(100):
            stand.reactor.post(on_batch_end.append, number)

    get_original("_thread", "start_new_thread")(from_elsewhere, ())
    stand.until(lambda: len(on_batch_end) == 100)

    assert on_batch_end == list(range(100))


def test_the_hub_runs_other_greenlets_between_bursts() -> None:
    stand = Stand("hub")
    router, hosts = stand.router()
    link, ears = stand.link(router.endpoint)
    stand.until(lambda: ears.told == ["linked"])
    turns = 0

    def other() -> None:
        nonlocal turns
        while len(hosts.heard_bodies) < 2000:
            turns += 1
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    for _ in range(2000):
        link.send(b"x")
    greenlet.get(timeout=30)
    stand.close()

    assert turns > 2
