"""Lists of revoked certificates that nodes pass on to each other, where no registry or engine does."""

import shutil

import pytest

from discovery.exceptions import SecurityError
from discovery.security.authority import Authority
from discovery.security.keys import Keys
from discovery.security.list_exchange import REVOCATIONS, REVOKED, ListExchange
from discovery.security.renewal import learn, lists_of
from discovery.security.revocations import MOST_SERIALS, Revocations
from discovery.security.verdicts import Trust
from tests.ports import free_port
from tests.security.stage import Stranger
from tests.stage import until
from zmqservices.exceptions import Forbidden, RemoteUnavailable
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.wire import envelope
from zmqservices.wire.envelope import LARGEST_CONTROL
from zmqservices.wire.messages import Error, Hello, Welcome


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b


# --- the exchange ------------------------------------------------------------------------------------------


class Two:
    """Both ends of a connection, and the folders of both before anything was revoked."""

    def __init__(self, authority):
        self.keys = [Keys.read(authority.issue(name)) for name in ("one", "two")]
        self.ends = [ListExchange(keys) for keys in self.keys]


@pytest.fixture
def authority(tmp_path):
    made = Authority.create(tmp_path / "authority")
    for name in ("thief", "burglar"):
        made.issue(name)
    return made


@pytest.fixture
def two(authority):
    return Two(authority)


def revoked(authority, name):
    authority.revoke(name)
    return authority.revocations().signed


def test_a_list_crosses_a_connection_once_in_either_direction(authority, two):
    (one, other), (here, there) = two.keys, two.ends
    learn(one, [revoked(authority, "thief")])
    assert here.told() == {REVOCATIONS: {authority.public_key: 1}}, "nothing before the other end has told its numbers"

    here.takes({})
    here.takes(there.told())
    assert here.is_due
    message = here.told()
    assert message[REVOKED] == lists_of(one) and not here.is_due and REVOKED not in here.told()
    assert there.takes(message) and not there.is_due
    assert lists_of(other) == lists_of(one)

    learn(other, [revoked(authority, "burglar")])
    assert there.is_due and not here.is_due
    assert here.takes(there.told()) and not here.is_due
    assert not here.takes(there.told())


def test_long_lists_cross_in_several_messages_that_a_node_takes(authority, two, tmp_path):
    """Each is the longest that an authority makes."""
    (one, other), (here, there) = two.keys, two.ends
    authorities = [authority, Authority.create(tmp_path / "second"), Authority.create(tmp_path / "third")]
    for keys in two.keys:
        keys.trust = Trust(frozenset(made.public_key for made in authorities), {})
    serials = {f"{number:016x}" for number in range(MOST_SERIALS)}
    learn(one, [Revocations(made.public_key).with_serials(serials, made._keys).signed for made in authorities])
    here.takes(there.told())

    messages = 0
    while here.is_due:
        message = here.told()
        assert len(envelope.encode(Welcome(1, 0, "n" * 255, "default", message))) < LARGEST_CONTROL
        assert there.takes(message)
        messages += 1

    assert messages == len(authorities)
    assert sorted(lists_of(other)) == sorted(lists_of(one))


def test_after_another_connection_the_numbers_are_told_again(authority, two):
    (one, _), (here, there) = two.keys, two.ends
    learn(one, [revoked(authority, "thief")])
    here.takes(there.told())
    here.told()

    here.forget()

    assert not here.is_due
    here.takes(there.told())
    assert here.is_due


@pytest.mark.parametrize(
    "info",
    [
        {REVOCATIONS: {"text": 1}},
        {REVOCATIONS: {b"x" * 32: -1}},
        {REVOCATIONS: {bytes([number]): 1 for number in range(17)}},
        {REVOKED: [b""] * 17},
        {REVOKED: "text"},
        {REVOKED: [b"junk"]},
        {REVOKED: [5]},
    ],
)
def test_junk_is_refused(two, info):
    with pytest.raises(SecurityError):
        two.ends[0].takes(info)


def test_a_peer_that_exchanges_nothing_is_sent_nothing(authority, two):
    learn(two.keys[0], [revoked(authority, "thief")])

    for info in (None, {}, {REVOCATIONS: None}, {"services": {}}):
        assert not two.ends[0].takes(info) and not two.ends[0].is_due


# --- nodes with static: ------------------------------------------------------------------------------------


class StaticCluster:
    """A service that is written in a list, and settings for nodes whose folders are on hosts of their own."""

    def __init__(self, cluster, folder, start):
        self._cluster, self._folder, self._start = cluster, folder, start
        self._port = free_port()
        self.maths = self.folder("maths", serves="maths")
        self.address, self.key = f"tcp://127.0.0.1:{self._port}", Keys.read(self.maths).pair.public

    def folder(self, name, **permissions):
        issued = self._cluster.keys(name, **permissions)
        return shutil.copytree(issued, self._folder / issued.name)

    def settings(self, folder):
        where = f"static:maths={self.address}#{self.key.hex()}"
        return {**self._cluster.settings(folder), "DIRECTORY": where, "DIRECTORY_TTL": 0.6, "rpc_wait_for_service": 5}

    def serve(self):
        return self._start(Maths, {**self.settings(self.maths), "BIND_ADDRESS": self.address})

    def revoke(self, folder, tell):
        """The authority revokes this node, and tells the node with the folder `tell` alone."""
        serial = self._cluster.authority.revoke(folder.name)
        shutil.copy(self._cluster.folder / "revoked", tell)
        return serial

    def knows(self, folder, serial):
        return any(serial in one.serials for one in Keys.read(folder).trust.revoked.values())


@pytest.fixture
def static(cluster, tmp_path, start):
    return StaticCluster(cluster, tmp_path / "hosts", start)


def why_refused(client):
    try:
        client.add(2, 3)
    except (RemoteUnavailable, Forbidden) as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("told", ["the service", "a client"])
def test_with_a_fixed_list_a_list_of_revoked_certificates_that_one_node_has_reaches_all(static, told):
    honest, other, thief = (static.folder(name, calls="maths") for name in ("honest", "other", "thief"))
    static.serve()
    with (
        ServiceRpcProxy("maths", static.settings(honest)) as first,
        ServiceRpcProxy("maths", static.settings(other)) as second,
        ServiceRpcProxy("maths", static.settings(thief)) as stolen,
    ):
        assert [client.add(2, 3) for client in (first, second, stolen)] == [5, 5, 5]

        serial = static.revoke(thief, tell=static.maths if told == "the service" else honest)

        # Over connections that stand, and without a restart.
        until(lambda: all(static.knows(folder, serial) for folder in (static.maths, honest, other)))
        until(lambda: "was revoked" in why_refused(stolen))
        assert first.add(2, 3) == second.add(2, 3) == 5


def test_a_node_that_connects_later_gets_the_list_with_the_greeting(static):
    late, thief = static.folder("late", calls="maths"), static.folder("thief", calls="maths")
    serial = static.revoke(thief, tell=static.maths)
    static.serve()

    with ServiceRpcProxy("maths", static.settings(late)) as client:
        assert client.add(2, 3) == 5

        until(lambda: static.knows(late, serial))


def test_a_peer_with_a_certificate_that_sends_junk_for_a_list_is_refused(static):
    folder = static.folder("joker", calls="maths")
    keys = Keys.read(folder)
    static.serve()

    with Stranger(static.address, keys.pair, static.key) as joker:
        shown = {"certificate": keys.signed, REVOCATIONS: {}}
        joker.say(Hello(1, 0, "joker", "default", shown))
        welcome = joker.hear()
        joker.say(Hello(1, 0, "joker", "default", {**shown, "renews": True, REVOKED: [b"junk"]}))
        answer = joker.hear()

    assert isinstance(welcome, Welcome) and isinstance(answer, Error)
    assert answer.error["code"] == "protocol" and "revoked certificates" in answer.error["value"]
