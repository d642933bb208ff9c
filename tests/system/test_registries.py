"""Registries die and come back; calls do not depend on them."""

import time

from tests.system.load import Load, told
from tests.system.processes import eventually


def add(remote, number):
    return remote.relay.add(number, 1)


def test_with_every_registry_dead_services_go_on_and_registries_fill_again(make_cluster):
    cluster = make_cluster(registries=2, DIRECTORY_TTL=1)
    processes = cluster.run_all("maths", "maths", "relay", "relay")
    maths, relays = processes[:2], processes[2:]
    pids = {"maths": {p.pid for p in maths}, "relay": {p.pid for p in relays}}

    with Load(cluster.client_config(), add, greenlets=8, pause=0.02) as load:
        load.wait_for(100)
        for registry in cluster.registries:
            registry.kill()
            registry.wait()
        # Beyond every lease: nobody renews, and nobody is forgotten.
        deaf_until = time.monotonic() + 1.5 * cluster.config["DIRECTORY_TTL"]
        load.wait_for(50, since=deaf_until)
        assert {name: cluster.listing.pids(name) for name in pids} == pids
        # They come back empty, on the same ports.
        seen = []
        unsubscribe = cluster.listing.directory.subscribe(
            lambda view: seen.append({s.record.pid for s in view.records.values() if s.record.service in pids})
        )
        first, second = cluster.ports
        cluster.registry(first)
        cluster.listing.wait_for(lambda: cluster.listing.directory.view().fresh, what="the first one back is believed")
        cluster.registry(second)
        eventually(
            lambda: all(
                registry["state"] == "up" and not registry["warming"] and registry["records"] == 4
                for registry in cluster.listing.directory.view().registries
            ),
            what="both registries list all four instances, and are warm",
        )
        load.wait_for(100, since=time.monotonic())
        unsubscribe()

    assert not load.failed(), told(load.failed())
    # In the meantime nobody was taken out of a view for a moment.
    assert seen and all(view == pids["maths"] | pids["relay"] for view in seen)
    # Who comes now finds them.
    late = cluster.command("call", "maths.add", "2", "3")
    assert late.wait() == 0
    # And whoever died while the registries were dead goes now.
    relays[0].kill()
    cluster.wait_unlisted("relay", relays[0].pid)


def test_an_instance_that_comes_while_registries_are_dead_is_found_when_they_are_back(cluster):
    cluster.run_one("maths")
    (registry,) = cluster.registries
    registry.kill()
    registry.wait()

    newcomer = cluster.launch("maths")
    newcomer.has_said("Services started")
    with cluster.client(rpc_wait_for_service=10) as remote:
        cluster.registries = [cluster.registry(port) for port in cluster.ports]
        eventually(lambda: remote.maths.whoami() == newcomer.pid, what="the newcomer answers")


def test_a_client_that_starts_while_registries_are_dead_remembers_who_was_there(cluster, tmp_path):
    maths = cluster.run("maths", count=2)
    remembering = {"DIRECTORY_CACHE": str(tmp_path / "cache")}
    # What a registry says while it warms up may be half of the truth, and is not kept.
    cluster.listing.wait_for(lambda: cluster.listing.directory.view().fresh, what="the registry is warm")
    with cluster.client(**remembering) as remote:
        assert remote.maths.add(2, 3) == 5
    cluster.registries[0].kill()
    cluster.registries[0].wait()
    # One of the two is gone besides, and the view does not know.
    maths[0].kill()
    maths[0].wait()

    with cluster.client(**remembering) as remote:
        began = time.monotonic()
        assert {remote.maths.whoami() for _ in range(20)} == {maths[1].pid}
        assert time.monotonic() - began < 8.0, "the one that is gone was waited for"


def test_one_registry_of_two_is_enough(make_cluster):
    cluster = make_cluster(registries=2)
    cluster.registries[0].kill()
    cluster.registries[0].wait()

    maths = cluster.run_one("maths")

    with cluster.client() as remote:
        assert remote.maths.whoami() == maths.pid
