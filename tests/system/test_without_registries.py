"""The registry hints, connections decide: with every registry gone, services go on."""

from tests.system.load import Load, told


def test_with_every_registry_killed_calls_go_on_and_a_new_one_refills(make_cluster):
    cluster = make_cluster(registries=2)
    services = [*cluster.run("maths", count=2), cluster.run_one("relay")]

    with Load(cluster.client_config(), lambda remote, _: remote.relay.add(2, 3), greenlets=4, pause=0.01) as load:
        load.wait_for(50)
        for registry in cluster.registries:
            registry.kill()
            registry.wait()
        # Longer than a lease lives.
        moment = load.outcomes[-1].ended
        load.wait_for(50, since=moment + 1.5 * cluster.config["DIRECTORY_TTL"])
        seen = cluster.listing.pids("maths")
        cluster.registry(cluster.ports[0])
        cluster.listing.wait_for(lambda: cluster.listing.directory.view().fresh, what="the new registry is believed")
        load.wait_for(50, since=load.outcomes[-1].ended)

    assert not load.failed(), told(load.failed())
    assert seen == {process.pid for process in services[:2]}
    assert cluster.listing.pids("maths") == seen
    late = cluster.command("call", "maths.add", "2", "3")
    assert late.wait() == 0


def test_a_client_that_starts_without_a_registry_uses_the_last_good_view(make_cluster, tmp_path):
    cluster = make_cluster()
    cluster.run("maths")
    cluster.listing.wait_for(lambda: cluster.listing.directory.view().fresh, what="the registry is believed")
    cache = {"DIRECTORY_CACHE": str(tmp_path / "cache")}
    with cluster.client(**cache) as remote:
        assert remote.maths.add(2, 3) == 5
    cluster.registries[0].kill()
    cluster.registries[0].wait()

    with cluster.client(**cache) as remote:
        assert remote.maths.add(2, 3) == 5
