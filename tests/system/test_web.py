"""Web services under `zmqservices run`: in a patched process, with signals, and beside others at the same port."""

import json
import threading
from contextlib import closing
from http.client import HTTPConnection, HTTPException

import pytest
import websocket

from tests.ports import free_port
from tests.system.processes import eventually


@pytest.fixture
def cluster(peaceful_cluster):
    return peaceful_cluster


class Port:
    """A port that a service was told to listen at, as clients see it."""

    def __init__(self):
        self.number = free_port()
        self.config = {"WEB_SERVER_ADDRESS": f"127.0.0.1:{self.number}"}

    def get(self, path, data=None):
        with closing(HTTPConnection("127.0.0.1", self.number, timeout=20)) as connection:
            connection.request("GET" if data is None else "POST", path, data)
            answer = connection.getresponse()
            if answer.status != 200:
                raise HTTPException(answer.status, answer.read())
            return answer.read().decode()

    def socket(self):
        socket = websocket.create_connection(f"ws://127.0.0.1:{self.number}/ws", timeout=20)
        assert json.loads(socket.recv())["event"] == "connected"
        return socket

    def is_refused(self):
        try:
            self.get("/pid")
        except (HTTPException, OSError):
            return True
        return False


@pytest.fixture
def port():
    return Port()


@pytest.fixture
def run_shop(cluster):
    """A process of the shop; returns when it is up: the directory may list it before it listens for requests."""

    def run(**config):
        shop = cluster.launch("shop", **config)
        shop.has_said("Services started")
        return shop

    return run


def call(socket, method, **data):
    socket.send(json.dumps({"method": method, "data": data, "correlation_id": "x"}))
    return json.loads(socket.recv())


def test_one_process_serves_calls_requests_and_websockets(cluster, run_shop, port):
    shop = run_shop(**port.config)
    socket = port.socket()

    cluster.wait_listed("shop", shop)
    with cluster.client() as remote:
        assert remote.shop.add_up(2, 3) == 5
    assert port.get("/pid") == str(shop.pid)
    assert port.get("/stream") == "0\n1\n2\n3\n4\n"
    assert port.get("/length", b"x" * 5_000_000) == "5000000"
    assert port.get("/window") == '{"seen": true}'
    assert call(socket, "add", a=2, b=3)["data"] == 5
    socket.close()


def test_sigterm_answers_what_runs_and_refuses_what_comes(cluster, run_shop, port):
    shop = run_shop(**port.config)
    socket = port.socket()
    assert call(socket, "listen")["success"]
    answers = []
    asking = threading.Thread(target=lambda: answers.append(port.get("/slow?seconds=1")))
    asking.start()
    assert json.loads(socket.recv())["event"] == "slow"

    shop.terminate()

    eventually(port.is_refused, what="new requests are refused")
    assert shop.is_running
    opcode, frame = socket.recv_data()
    assert (opcode, frame) == (websocket.ABNF.OPCODE_CLOSE, (1001).to_bytes(2, "big") + b"the service is stopping")
    # This library's `close` closes nothing once the other side has said goodbye.
    socket.shutdown()
    assert shop.wait() == 0
    asking.join()
    assert answers == ["done"]
    assert "Traceback" not in shop.output()


def test_a_second_process_at_the_port_fails_with_a_sentence(cluster, run_shop, port):
    first = run_shop(**port.config)
    second = cluster.launch("shop", **port.config)

    assert second.wait() != 0
    assert f"cannot listen at WEB_SERVER_ADDRESS 127.0.0.1:{port.number}: it is taken" in second.output()
    assert "WEB_SERVER_REUSE_PORT: true" in second.output()
    assert "Traceback" not in second.output()
    assert port.get("/pid") == str(first.pid)


def test_processes_share_a_port_where_they_are_told_to(cluster, run_shop, port):
    shared = {**port.config, "WEB_SERVER_REUSE_PORT": "true"}
    processes = [run_shop(**shared) for _ in range(2)]
    pids = {str(process.pid) for process in processes}
    seen = set()

    eventually(lambda: seen.add(port.get("/pid")) or seen == pids, what="both answer")

    processes[0].terminate()
    assert processes[0].wait() == 0
    assert {port.get("/pid") for _ in range(20)} == {str(processes[1].pid)}
