"""What every test relies on: hypothesis without deadlines of its own, and settings that do not leak."""

import faulthandler
import gc
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.collecting import import_by_turns, keep_what_is_left, keep_what_was_collected
from tests.costs import LONGEST, SLOW
from tests.ports import free_port
from zmqservices import config, probes

# The machine that runs the tests may be busy: a slow example is no failure, a hanging test is one. Fewer random examples keep
# a run short, and each run tries others; `make fuzz` tries all of them.
settings.register_profile("quick", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=30)
settings.register_profile("thorough", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.load_profile("quick")

# What was compiled is kept, whatever the shell says: hundreds of processes start here, and none of them need do it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

#: Seconds for a test with random examples. Hypothesis shrinks a failing one for as long as it takes, five minutes at most, and
#: pytest-timeout would end the process before the failure is reported.
SHRINKING = 400.0

# A shell that starts the tests in the background, or under nohup, lets them ignore these; so would all processes that they start.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

#: Seconds that cleaning up after a test may take. pytest-timeout stops counting when a test fails.
CLEANING_UP = 120.0
STDERR = pytest.StashKey[int]()


def pytest_configure(config):
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    gc.disable()
    if hasattr(session.config, "workerinput"):
        worker = session.config.workerinput
        import_by_turns(Path(__file__).parent, int(worker["workerid"].removeprefix("gw")), worker["workercount"])


def pytest_collection_finish():
    keep_what_was_collected()


def pytest_collection_modifyitems(items):
    """Long files come first, so that at the end of a run no process waits for another one's last file."""
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(LONGEST)}
    for item in items:
        # Next come the other files with long tests.
        if item.get_closest_marker("system") is not None:
            ranks.setdefault(item.path, len(LONGEST))
    items.sort(key=lambda item: ranks.get(item.path, len(LONGEST) + 1))
    slow = {tests / name for name in SLOW}
    for item in items:
        if item.path in slow:
            item.add_marker("slow")
        if is_hypothesis_test(getattr(item, "obj", None)) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SHRINKING))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    faulthandler.dump_traceback_later(CLEANING_UP, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        if nextitem is not None and nextitem.path != item.path:
            keep_what_is_left()


@pytest.fixture(autouse=True, scope="session")
def caches_are_the_tests_own(tmp_path_factory):
    """Nothing that tests remember of directories and events is kept in the home of whoever runs them."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True, scope="session")
def the_machines_directory_is_the_tests_own():
    """Services that tests start announce themselves at a port of this run's own: not at that of whoever runs the tests,
    and not at that of a second run beside it."""
    os.environ["ZMQSERVICES_LOCAL_PORT"] = str(free_port())


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory):
    """One server for all tests, since a JVM is heavy; each test has a prefix of its own."""
    from tests.discovery.engine_servers import ZooKeeperServer

    with closing(ZooKeeperServer(tmp_path_factory.mktemp("zookeeper"), has_tls=True)) as server:
        yield server


def _engine(tmp_path_factory, kind):
    from tests.discovery import engine_servers

    with closing(getattr(engine_servers, kind)(tmp_path_factory.mktemp(kind))) as server:
        yield server


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    """A server for the tests of one file, since some count what it does."""
    yield from _engine(tmp_path_factory, "EtcdServer")


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    """The stand-in for an agent of Consul."""
    yield from _engine(tmp_path_factory, "ConsulServer")


@pytest.fixture(scope="module")
def real_consul(tmp_path_factory):
    """An agent of Consul; asked for only where one is installed."""
    yield from _engine(tmp_path_factory, "RealConsulServer")


@pytest.fixture(autouse=True)
def settings_are_put_back():
    """Settings are after the test what they were before it; none come from the developer's shell."""
    for name in ("ZMQSERVICES_DIRECTORY", "ZMQSERVICES_NAMESPACE"):
        os.environ.pop(name, None)
    before = dict(config)
    yield
    config.clear()
    config.update(before)


@pytest.fixture(autouse=True)
def probes_are_put_back():
    """No probe that was attached for a test, such as those of nodes that were asked for statistics, hears of the next one."""
    before = probes._attached
    yield
    for probe in probes._attached:
        if probe not in before:
            probes.detach(probe)
