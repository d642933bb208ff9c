"""Calls from signal handlers that interrupt a call of the same thread, in a program without greenlets."""

import subprocess
import sys

import pytest

from tests.stage import aside
from zmqservices.rpc import rpc

PROGRAM = """
import random, signal, sys, threading, time
from zmqservices.exceptions import CallCancelled, RpcTimeout
from zmqservices.standalone.rpc import ClusterRpcProxy

config = {"DIRECTORY": sys.argv[1], "NAMESPACE": sys.argv[2], "DIRECTORY_CACHE": "none"}
client = ClusterRpcProxy(config, timeout=20)
cluster = client.start()
cluster.words.echo(0)
"""

WAITING = """
heard = []
def handler(number, frame):
    heard.append(cluster.words.echo("from the handler"))
    try:
        cluster.words.wait.with_timeout(0.1)()
    except RpcTimeout as exc:
        heard.append("timed out")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
print(cluster.words.rest(0.6), heard)
client.stop()
"""

OTHERS_LEAD = """
leads = threading.Thread(target=cluster.words.rest, args=(1.0,))
leads.start()
time.sleep(0.1)
""" + WAITING.replace("client.stop()", "leads.join(); client.stop()")

ANYWHERE = """
heard = []
def handler(number, frame):
    heard.append(cluster.words.echo(frame.f_lineno) == frame.f_lineno)
signal.signal(signal.SIGALRM, handler)
count = armed = 0
dice = random.Random(7)
while len(heard) < 100:
    if armed == len(heard):
        armed += 1
        signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-5, 2e-3))
    assert cluster.words.echo(count) == count
    count += 1
print(all(heard), count > 0)
client.stop()
"""

WITHIN_EACH_OTHER = """
heard = []
def second(number, frame):
    heard.append(cluster.words.echo("second"))
def first(number, frame):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    heard.append(cluster.words.rest(0.4))
signal.signal(signal.SIGALRM, second)
signal.signal(signal.SIGUSR1, first)
threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
print(cluster.words.rest(0.6), heard)
client.stop()
"""

STOPPED = """
def handler(number, frame):
    client.stop()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    cluster.words.rest(5)
except CallCancelled as exc:
    print("the client was stopped" in str(exc))
"""

ITS_OWN_RESULT = """
call = cluster.words.rest.call_async(0.5)
def handler(number, frame):
    try:
        call.result()
    except RuntimeError as exc:
        print("interrupted" in str(exc))
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.1)
print(call.result())
client.stop()
"""


class Words:
    name = "words"

    @rpc
    def echo(self, value):
        return value

    @rpc
    def rest(self, seconds):
        import gevent

        gevent.sleep(seconds)
        return "rested"

    @rpc
    def wait(self):
        import gevent

        gevent.sleep(30)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (WAITING, "rested ['from the handler', 'timed out']"),
        (OTHERS_LEAD, "rested ['from the handler', 'timed out']"),
        (ANYWHERE, "True True"),
        (WITHIN_EACH_OTHER, "rested ['second', 'rested']"),
        (STOPPED, "True"),
        (ITS_OWN_RESULT, "True\nrested"),
    ],
    ids=["waiting", "others lead", "anywhere", "within each other", "stopped", "its own result"],
)
def test_a_handler_that_interrupted_a_call_may_call(serve, cluster_config, program, said):
    serve(Words, max_workers=50)
    command = [sys.executable, "-c", PROGRAM + program, cluster_config["DIRECTORY"], cluster_config["NAMESPACE"]]

    done = aside(lambda: subprocess.run(command, capture_output=True, text=True, timeout=30))

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{said}\n"
    assert not done.stderr
