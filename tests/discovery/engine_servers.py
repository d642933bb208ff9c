"""Runs real servers of engines on loopback, each on its own port, for the tests of the directory."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.discovery.stage import AT_LAST
from tests.ports import free_port


def needed(program, package, *places):
    """The path of a program. If it is missing, the test is skipped; in CI the test fails."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        reason = f"{program} is not installed; `apt-get install {package}` brings it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def certificate(folder, name="127.0.0.1"):
    """A certificate for that address and for clients, which is its own authority, and its key: two PEM files."""
    cert, key = folder / f"cert-{name}.pem", folder / f"key-{name}.pem"
    subprocess.run(
        [needed("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=engine", "-addext", f"subjectAltName=IP:{name}", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def answer_to(request):
    """The body of the answer. An HTTPError holds a connection as well, which is closed here."""
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise


class Server:
    """A process that may be killed and started again with what it had on disk."""

    def __init__(self):
        self._process = None
        self.start()

    def start(self):
        silent = subprocess.DEVNULL
        self._process = subprocess.Popen(self.command(), stdout=silent, stderr=silent, env=self.environment())
        deadline = time.monotonic() + AT_LAST * 3
        while not self.answers():
            assert self._process.poll() is None, f"{self.command()[0]} ended with {self._process.returncode}"
            assert time.monotonic() < deadline, f"{self.command()[0]} never answered"
            time.sleep(0.02)

    def environment(self):
        return dict(os.environ)

    def kill(self):
        """Send SIGKILL, so that the server closes no session."""
        self._process.kill()
        self._process.wait()

    def freeze(self):
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    def close(self):
        self.kill()


class EtcdServer(Server):
    """One member, alone or one of those in `peers` (name: port for peers)."""

    def __init__(self, folder, name="one", peers=None, tls=()):
        self._program = needed("etcd", "etcd-server", "/usr/sbin")
        self._folder = folder / f"etcd-{name}"
        self._name = name
        self.port = free_port()
        self._peers = peers or {name: free_port()}
        self._tls = list(tls)
        self._tokens = 0
        self.host = f"127.0.0.1:{self.port}"
        super().__init__()

    @property
    def url(self):
        return f"etcd://{self.host}"

    @property
    def scheme(self):
        return "https" if self._tls else "http"

    def command(self):
        client = f"{self.scheme}://{self.host}"
        peer = f"http://127.0.0.1:{self._peers[self._name]}"
        cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in self._peers.items())
        return [
            self._program, "--name", self._name, "--data-dir", str(self._folder), "--log-level", "error", "--logger", "zap",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
            "--heartbeat-interval", "50", "--election-timeout", "500", "--unsafe-no-fsync",
            "--initial-cluster-token", str(self._tokens), *self._tls,
        ]  # fmt: skip

    def environment(self):
        return {**os.environ, "ETCD_UNSUPPORTED_ARCH": os.uname().machine}

    def answers(self):
        if self._tls or len(self._peers) > 1:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            self.call("/v3/kv/range", '{"key": "AA=="}')
        except OSError:
            return False
        return True

    def forget(self):
        """What it had on disk is lost; call it while it is down. As a new cluster it has another id."""
        shutil.rmtree(self._folder)
        self._tokens += 1

    def is_leader(self):
        status = json.loads(self.call("/v3/maintenance/status", "{}"))
        return status.get("leader") == status["header"]["member_id"]

    def call(self, path, body):
        """One request to its JSON gateway, or without a body to another page, as anybody could make it."""
        return answer_to(urllib.request.Request(f"http://{self.host}{path}", None if body is None else body.encode()))


class ConsulServer(Server):
    """The stand-in for an agent of Consul, see `consul_agent`. `options`: more of its own."""

    def __init__(self, folder, *options, shortest_ttl=0.1):
        self._options = ["--session-ttl-min", str(shortest_ttl), *options]
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"consul://{self.host}"
        super().__init__()

    def command(self):
        return [sys.executable, str(Path(__file__).with_name("consul_agent.py")), str(self.port), *self._options]

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def call(self, method, path, body=b"", **headers):
        """One request, as anybody could make it."""
        return answer_to(urllib.request.Request(f"http://{self.host}{path}", body, headers, method=method))


#: Consul itself, where there is one. Debian has none, so no test fails without it; one says that it is missing.
CONSUL = shutil.which("consul")
#: The kinds of Consul that contracts are tested with.
CONSULS = ["consul", *["real_consul"] * (CONSUL is not None)]


class RealConsulServer(ConsulServer):
    """An agent of Consul itself."""

    def command(self):
        ports = [f"-{name}-port={free_port()}" for name in ("serf-lan", "serf-wan", "server")]
        config = 'session_ttl_min = "1s" limits { http_max_conns_per_client = 2000 }'
        return [
            CONSUL, "agent", "-dev", "-bind=127.0.0.1", "-log-level=error", f"-http-port={self.port}", "-dns-port=-1",
            "-grpc-port=-1", "-grpc-tls-port=-1", *ports, f"-hcl={config}",
        ]  # fmt: skip

    def answers(self):
        try:
            return self.call("GET", "/v1/status/leader") != b'""'
        except OSError:
            return False


class ZooKeeperServer(Server):
    """One member, alone or one of those in `peers` (number: port for peers, port for elections).

    `has_tls`: it has a second port, `secure_host`, at which clients need the certificate `cert` with `key`.
    """

    def __init__(self, folder, number=1, peers=None, has_tls=False):
        self._java = needed("java", "default-jre-headless")
        needed("zkServer.sh", "zookeeperd", "/usr/share/zookeeper/bin")
        self._folder = folder / f"zookeeper-{number}"
        self._folder.mkdir()
        self._peers = peers or {}
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"zookeeper://{self.host}"
        lines = [
            "tickTime=100", "initLimit=100", "syncLimit=30", f"dataDir={self._folder}", f"clientPort={self.port}",
            "clientPortAddress=127.0.0.1", "admin.enableServer=false", "maxClientCnxns=0", "4lw.commands.whitelist=*",
            "forceSync=no", "preAllocSize=64", "maxSessionTimeout=60000",
        ]  # fmt: skip
        lines += [f"server.{one}=127.0.0.1:{port}:{election}" for one, (port, election) in self._peers.items()]
        self._jars = ["zookeeper.jar"]
        if has_tls:
            lines += self._secured()
        (self._folder / "zoo.cfg").write_text("\n".join(lines))
        (self._folder / "myid").write_text(str(number))
        super().__init__()

    def command(self):
        # A JVM as small as it gets: it runs for a test, not for months.
        options = ["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        jars = ":".join(f"/usr/share/java/{jar}" for jar in self._jars)
        return [self._java, *options, "-cp", jars, main, str(self._folder / "zoo.cfg")]

    def _secured(self):
        # The list of jars within Debian's zookeeper.jar lacks two that TLS takes.
        self._jars += ["netty-codec.jar", "netty-resolver.jar"]
        self.cert, self.key = certificate(self._folder)
        (self._folder / "both.pem").write_text(self.key.read_text() + self.cert.read_text())
        port = free_port()
        self.secure_host = f"127.0.0.1:{port}"
        return [
            f"secureClientPort={port}", "secureClientPortAddress=127.0.0.1",
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
            f"ssl.keyStore.location={self._folder / 'both.pem'}", "ssl.keyStore.type=PEM",
            f"ssl.trustStore.location={self.cert}", "ssl.trustStore.type=PEM",
        ]  # fmt: skip

    def counted(self, word):
        """One of the numbers that it keeps of itself, such as `packets_received`."""
        return int(re.search(rf"^zk_{word}\s+(\d+)", self.ask("mntr"), re.MULTILINE)[1])

    def answers(self):
        # The members of an ensemble serve when they have found each other, so they are waited for together.
        return bool(self._peers) or self.serves()

    def ask(self, word):
        """The answer to one of its four-letter words; empty when there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(word.encode())
                return b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        except OSError:
            return ""

    def serves(self):
        return "Mode: " in self.ask("srvr")

    def is_leader(self):
        return "Mode: leader" in self.ask("srvr")

    def forget(self):
        """What it had on disk is lost; call it while it is down."""
        shutil.rmtree(self._folder / "version-2")
