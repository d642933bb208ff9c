"""Trouble of each kind, for seconds, under load: every call and every event is accounted for. `make chaos` goes on for longer."""

import os
import random
import shutil
from contextlib import ExitStack
from functools import partial

import pytest

from tests.system.chaos.scenarios import HOSTS, LEFT, SCENARIOS, deployed
from tests.system.conftest import staged
from tests.system.hosts import Hosts, why_not

pytestmark = pytest.mark.timeout(120)

#: What is needed beside namespaces, and the package that brings it.
PROGRAMS = {"etcd": ("etcd", "etcd-server"), "zookeeper": ("java", "zookeeperd")}


def required(reason):
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must run the chaos suite: {reason}")
    if reason:
        pytest.skip(reason)


def why_missing(directory):
    program, package = PROGRAMS.get(directory, ("", ""))
    if program and shutil.which(program) is None:
        return f"{program} is not installed; `apt-get install {package}` brings it"
    return why_not()


@pytest.fixture(scope="module")
def deploy(guardian, tmp_path_factory, request):
    """The cluster over five hosts that a scenario needs; the one before it is kept if it is of the same kind."""
    with ExitStack() as standing:
        kinds, deployments = [], []

        def of(directory, parts):
            if kinds[-1:] != [(directory, parts)]:
                standing.close()
                network, folder = Hosts(HOSTS, left=LEFT, with_this=True), tmp_path_factory.mktemp("chaos")
                stage = standing.enter_context(staged(guardian, folder, request.node))
                standing.enter_context(network)
                deployments.append(standing.enter_context(deployed(stage, network, folder, directory, parts)))
                kinds.append((directory, parts))
            return deployments[-1]

        yield of


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.seconds is not None])
def test_all_calls_and_events_are_accounted_for(deploy, name):
    scenario = SCENARIOS[name]
    required(why_missing(scenario.directory))
    deployment = deploy(scenario.directory, scenario.parts)
    seed = random.randrange(10**6)
    print(f"python -m tests.system.chaos --seed {seed} {name}")

    run = partial(scenario.run, deployment, scenario.seconds, random.Random(f"{seed} {name}"))
    account = deployment.observe(run, scenario.may_fail)

    assert not account.faults, "\n".join(account.faults[:20])
    assert account.outcomes["answered"] > 50, account
