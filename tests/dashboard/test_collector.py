"""The collector of the dashboard, beside records that nobody can use."""

from contextlib import closing

from tests.discovery.stage import House, record, registries
from tests.stage import until
from zmqservices.dashboard.collector import Collector


def test_a_record_that_names_no_usable_address_is_a_problem_of_its_own():
    with registries() as (server,), closing(House(server.url)) as house:
        announcing = house.open()
        announcing.announce(record("one", endpoints={"rpc": "nonsense"}))
        assert announcing.flush(30)
        collector = Collector({"DIRECTORY": server.url})
        collector.start()
        try:
            until(lambda: any(node.problem for node in collector.state.nodes.values()), 30)
            (node,) = collector.state.nodes.values()
            assert node.problem.startswith("ConfigurationError: ") and "'nonsense'" in node.problem
            assert not any(greenlet.dead for greenlet in collector._asking.values())
        finally:
            collector.stop()
