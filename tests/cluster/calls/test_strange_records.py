"""Unusable records, and far too many of them, do not keep a caller from the usable instances."""

import logging
import os
import socket
from contextlib import contextmanager

import pytest

import discovery
from tests.stage import until
from zmqservices.cluster.calls import peer_pool as peer_pool
from zmqservices.exceptions import RemoteUnavailable
from zmqservices.rpc import rpc

STRANGE = ["quic://127.0.0.1:4190", "tcp://", "tcp://127.0.0.1:0", "tcp://127.0.0.1:99999999", "no address", "tcp://[::1", "\0"]


class Words:
    name = "words"

    @rpc
    def hello(self):
        return "hello"


@contextmanager
def announced(config, endpoints):
    """Records of `words` at these endpoints. Yields the directory, to announce more."""
    directory = discovery.open_directory(config["DIRECTORY"], namespace=config["NAMESPACE"], host=False)
    directory.start()
    for number, endpoint in enumerate(endpoints):
        directory.announce(record(config, number, endpoint))
    until(lambda: len(directory.service("words")) >= len(endpoints))
    yield directory
    directory.stop()


def record(config, number, endpoint, version=1):
    # An instance that has left never comes back, in no namespace.
    return discovery.Record(
        service="words", instance=f"{number:04d}-forged-{config['NAMESPACE']}", node=f"forged-{number}", incarnation=1,
        version=version, namespace=config["NAMESPACE"], endpoints={"rpc": endpoint}, host="nowhere",
    )  # fmt: skip


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def known(cluster):
    directory = cluster.words._client._cluster.directory
    directory.add_interest(["words"])
    return directory.service("words")


def caller_of(cluster):
    return cluster.words._client._cluster.caller()


def test_an_unusable_record_hides_no_other(serve, cluster, cluster_config, caplog):
    with announced(cluster_config, STRANGE), caplog.at_level(logging.WARNING):
        serve(Words)
        serve(Words, elsewhere=True)

        assert [cluster.words.hello() for _ in range(10)] == ["hello"] * 10
        until(lambda: len(caller_of(cluster)._pools["words"].ready) == 2)
        told = [entry.getMessage() for entry in caplog.records if "is passed over" in entry.getMessage()]

    assert len(told) == len(set(told)) > 0
    assert any("of 'words' is passed over: 'quic://127.0.0.1:4190' is no address" in text for text in told)


def test_many_unusable_records_do_not_fill_the_log(serve, cluster, cluster_config, caplog):
    strange = [f"quic://{number}" for number in range(2 * peer_pool.MOST_TOLD)]
    with announced(cluster_config, strange), caplog.at_level(logging.WARNING):
        serve(Words)

        assert cluster.words.hello() == "hello"
        until(lambda: len(known(cluster)) > 2 * peer_pool.MOST_TOLD)
        told = [entry.getMessage() for entry in caplog.records if "is passed over" in entry.getMessage()]

    assert 0 < len(told) <= peer_pool.MOST_TOLD


def test_nothing_is_kept_of_unusable_records_however_often_they_change(serve, cluster, cluster_config):
    serve(Words)
    with announced(cluster_config, STRANGE) as directory:
        assert cluster.words.hello() == "hello"
        pool = caller_of(cluster)._pools["words"]
        until(lambda: len(known(cluster)) == 1 + len(STRANGE))
        assert cluster.words.hello() == "hello"
        before = descriptors()
        for version in range(2, 12):
            for number, endpoint in enumerate(STRANGE):
                directory.announce(record(cluster_config, number, endpoint, version))
        directory.announce(record(cluster_config, 99, "tcp://127.0.0.1:9"))
        until(lambda: cluster.words.hello() and any(key.startswith("0099") for key in pool.instances))

        # One link more, which is that of the last.
        assert descriptors() <= before + peer_pool.DESCRIPTORS_PER_LINK


@pytest.fixture
def refusing():
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_many_forged_instances_take_few_descriptors_and_hide_no_real_one(serve, connect, cluster_config, refusing, monkeypatch):
    monkeypatch.setattr(peer_pool, "most_links", lambda: 8)
    monkeypatch.setattr(peer_pool, "TURN", 0.05)
    with announced(cluster_config, [refusing] * 60):
        serve(Words)
        cluster = connect(rpc_wait_for_service=10.0)
        before = descriptors()

        # It comes last of all, and is found all the same.
        assert cluster.words.hello() == "hello"

        caller = caller_of(cluster)
        assert len(caller._peer_pool.peers) <= 8
        assert descriptors() <= before + 9 * peer_pool.DESCRIPTORS_PER_LINK + 10
        # Whoever answers keeps its link, while the others take turns.
        seen = set()
        until(lambda: cluster.words.hello() and (seen.update(caller._pools["words"].instances) or len(seen) > 30))


def test_an_error_names_instances_without_a_connection(connect, cluster_config, refusing, monkeypatch):
    monkeypatch.setattr(peer_pool, "most_links", lambda: 4)
    with announced(cluster_config, [refusing] * 10):
        cluster = connect(rpc_wait_for_service=0.3)
        until(lambda: len(known(cluster)) == 10)

        with pytest.raises(RemoteUnavailable, match="and 6 without a link, because there are too many"):
            cluster.words.hello()


def test_links_take_half_of_the_descriptors(monkeypatch):
    for limit, links in [(1024, 128), (65536, 8192), (64, 8), (16, peer_pool.LEAST_LINKS)]:
        monkeypatch.setattr(peer_pool.resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert peer_pool.most_links() == links
    monkeypatch.setattr(peer_pool.resource, "getrlimit", lambda _: (peer_pool.resource.RLIM_INFINITY,) * 2)
    assert peer_pool.most_links() > 10_000
