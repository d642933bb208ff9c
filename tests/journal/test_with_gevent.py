"""The journal's thread beside gevent's hub, in a process that gevent has patched and in one that it has not."""

import json
import subprocess
import sys

import pytest

#: Greenlets append and wait, beside others that count how often they come to run; then the group fetches it all.
PROGRAM = """
import sys
if sys.argv[2] == "patched":
    import gevent.monkey
    gevent.monkey.patch_all()
import json, time
import gevent
from gevent.event import AsyncResult
from zmqservices.journal import Group, Journal, NewEvent

hub = gevent.get_hub()
turns = 0

def ask(name, *args):
    result = AsyncResult()
    getattr(journal, name)(*args, done=lambda answer: hub.loop.run_callback_threadsafe(result.set, answer))
    return result.get(timeout=30)

def count_turns():
    global turns
    while True:
        turns += 1
        gevent.sleep(0)

def dispatch(n):
    seqs = []
    for i in range(n):
        hub.loop.run_callback(journal.give_way, 0.002)
        seqs.append(ask("append", NewEvent("order.created", b"%d" % i)))
    return seqs

# A hub with nothing to do but wait for another thread would say that it waits for ever.
hub.loop.async_().start(lambda: None)
journal = hub.threadpool.apply(Journal.open, (sys.argv[1], "orders"))
ask("ensure_group", Group("reports.handle", "#"))
counter = gevent.spawn(count_turns)
seqs = [seq for g in gevent.joinall([gevent.spawn(dispatch, 50) for _ in range(20)]) for seq in g.value]
counter.kill()
page = ask("fetch", "reports.handle", 0, 2000)
for item in page.items:
    journal.acknowledge("reports.handle", item.seq)
closed = ask("close")
print(json.dumps([sorted(seqs) == list(range(1, 1001)), len(page.items), turns > 20, closed]))
"""


@pytest.mark.parametrize("process", ["patched", "unpatched"])
def test_greenlets_append_and_wait_while_the_hub_runs_on(tmp_path, process):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path), process], capture_output=True, text=True, timeout=50
    )

    assert run.stderr == ""
    assert json.loads(run.stdout) == [True, 1000, True, None]


#: A process that ends without closing its journal: nothing keeps it from ending.
FORGETFUL = """
import sys
from zmqservices.journal import Journal, NewEvent
import threading
journal = Journal.open(sys.argv[1], "orders")
committed = threading.Event()
journal.append(NewEvent("a", b""), lambda seq: committed.set())
committed.wait()
"""


def test_a_process_that_does_not_close_its_journal_still_ends(tmp_path, open_journal):
    run = subprocess.run([sys.executable, "-c", FORGETFUL, str(tmp_path)], capture_output=True, text=True, timeout=50)

    assert (run.returncode, run.stderr) == (0, "")
    assert open_journal(folder=tmp_path).last_seq == 1
