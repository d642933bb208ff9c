"""Services of one machine find each other without any configuration."""

import psutil

from tests.system.load import Load, told
from tests.system.processes import eventually


def listeners(port, processes):
    """The pids among `processes` that listen at a port."""
    return [
        process.pid
        for process in processes
        if process.is_running
        and any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in psutil.Process(process.pid).net_connections("tcp")
        )
    ]


def test_two_services_and_a_command_find_each_other(make_cluster):
    cluster = make_cluster(registries=0)
    cluster.environment = {"ZMQSERVICES_LOCAL_PORT": str(cluster.local_port)}  # nothing else, and no flags
    cluster.config = {}

    services = [cluster.launch("examples.hello:HelloWorld"), cluster.launch("examples.hello:Greeter")]
    for service in services:
        service.has_said("Services started")
    call = cluster.command("call", "greeter.greet_all", '["Ada", "Grace"]')

    assert call.wait() == 0
    assert '["Hello, Ada!", "Hello, Grace!"]' in call.output()
    # The one that ends last has no registry left to tell; that must not keep it.
    for service in services:
        service.terminate()
    assert [service.wait() for service in services] == [0, 0]


def test_the_list_shows_what_runs(make_cluster):
    cluster = make_cluster(registries=0)
    cluster.run("maths", count=2)

    command = cluster.command("ls", "--json")

    assert command.wait() == 0
    assert '"service": "maths"' in command.output()
    assert '"up": 2' in command.output()


def test_when_the_host_of_the_directory_is_killed_another_takes_over(make_cluster):
    cluster = make_cluster(registries=0)
    host = cluster.run_one("witness")
    others = cluster.run("maths", count=2)
    assert listeners(cluster.local_port, [host, *others]) == [host.pid]

    with Load(cluster.client_config(), lambda remote, _: remote.maths.add(2, 3), greenlets=8, pause=0.01) as load:
        # The load's own client is a candidate too; that is how it should be. It must not be the only one.
        load.wait_for(50)
        host.kill()
        host.wait()
        newcomer = cluster.run_one("maths")
        load.wait_for(50, since=load.outcomes[-1].ended)

    assert not load.failed(), told(load.failed())
    eventually(lambda: listeners(cluster.local_port, [*others, newcomer]), what="a service hosts the directory")
    call = cluster.command("call", "maths.add", "2", "3")
    assert call.wait() == 0
    assert call.output().strip() == "5"
    cluster.listing.wait_for(
        lambda: cluster.listing.pids("maths") == {p.pid for p in [*others, newcomer]}, what="all three are listed"
    )
    cluster.listing.wait_for(lambda: not cluster.listing.pids("witness"), what="the dead one is forgotten")
