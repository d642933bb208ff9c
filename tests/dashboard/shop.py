"""The processes of the shop example under load, with dashboards: for tests of the page, and for its pictures."""

import http.client
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from examples.shop.demo import CONFIG
from tests.dashboard.page import PATIENCE
from tests.ports import free_port
from tests.system.processes import Guardian

HOME = Path(__file__).parents[2]

class Running:
    """A process, and what it writes."""

    def __init__(self, process, log):
        self.process = process
        self.pid = process.pid
        self._log = log

    def line(self, wanted):
        """The line with this text; waits for it."""
        end = time.monotonic() + PATIENCE * 1.5
        while time.monotonic() < end:
            for line in self._log.read_text(errors="replace").splitlines():
                if wanted in line:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"no {wanted!r} in:\n{self._log.read_text(errors='replace')[-3000:]}")

    def kill(self):
        """SIGKILL. Returns the time of the signal in seconds since 1970."""
        at = time.time()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)
        return at


#: The shop's own services.
PRODUCTS, ORDERS, GATEWAY = (f"examples.shop.{name}" for name in ("products", "orders", "gateway"))


class Shop:
    """Starts processes of the shop in `folder`, where modules of other services may be, and places orders."""

    def __init__(self, folder, redis_url):
        self.folder = folder
        self.web_port = free_port()
        self._guardian = Guardian(forks=True)
        self._processes = []
        self._settings = ("-c", CONFIG, "-d", f"JOURNAL_FOLDER={folder / 'journal'}")
        self._environment = {
            **os.environ, "PYTHONPATH": f"{HOME}{os.pathsep}{folder}", "ZMQSERVICES_LOCAL_PORT": str(free_port()),
            "SHOP_ADDRESS": f"127.0.0.1:{self.web_port}", "SHOP_DB": f"sqlite:///{folder}/shop.db", "SHOP_REDIS": redis_url,
        }  # fmt: skip
        self.is_over = threading.Event()
        self._load = threading.Thread(target=self._order_on)

    def run_services(self, *modules):
        """Start a process with the services of these modules."""
        return self.run("run", *modules, *self._settings)

    def run_dashboard(self, *options):
        """Start a dashboard. Its line "dashboard: URL" has the address."""
        return self.run("dashboard", "--port", "0", *options)

    def run(self, *arguments):
        """Start a command."""
        log = self.folder / f"{len(self._processes)}.log"
        command = [sys.executable, "-m", "zmqservices", *arguments]
        with open(os.devnull) as null, open(log, "wb") as output:
            streams = [null.fileno(), output.fileno(), output.fileno()]
            process = Running(self._guardian.servers.run(command, self._environment, self.folder, streams), log)
        self._guardian.watch(process.pid)
        self._processes.append(process)
        return process

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=PATIENCE)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    def begin_load(self):
        assert self.ask("POST", "/products", {"id": "zeppelin", "title": "Zeppelin", "in_stock": 1000}) in (201, 409)
        self._load.start()

    def _order_on(self):
        while not self.is_over.wait(0.05):
            self.ask("POST", "/orders", {"lines": [{"product": "zeppelin", "quantity": 1}]})

    def end(self):
        self.is_over.set()
        if self._load.ident:
            self._load.join(PATIENCE)
        for process in self._processes:
            process.kill()
            self._guardian.forget(process.pid)
        self._guardian.close()
