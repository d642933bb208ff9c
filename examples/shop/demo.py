"""Runs the shop with a Redis server. Clients order over HTTP while the products service is killed and started again.

First, the dashboard prints the address of a live map of the services (`--no-dashboard` leaves it out). With `--stay`, orders keep
coming until Ctrl-C, so that the map has something to show.

The demo exits with 0 only if every order was accepted, and the stock of every product went down by the ordered quantity: the
killed process lost no event, and no event was counted twice. Without a redis-server the demo says so and exits with 0.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from examples.demo import Processes
from zmqservices.standalone.rpc import ClusterRpcProxy

ORDERS = 400
THREADS = 8
IN_STOCK = 1000
PRODUCTS = {"zeppelin": "Zeppelin NT", "blimp": "Blimp for two", "balloon": "Balloon, red"}
CONFIG = str(Path(__file__).with_name("config.yaml"))
#: Log warnings only. An access log would have a line for each of hundreds of requests.
QUIET = "LOGGING={version: 1, disable_existing_loggers: false}"
#: Seconds that each step may take: enough for a busy machine.
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(holds: Callable[[], bool]) -> bool:
    """Wait up to PATIENCE seconds until `holds()` is true. Return whether it became true."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Client:
    """An ordinary HTTP client of the shop."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request. Return the status and the decoded JSON body."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE * 2)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def stock(self) -> dict[str, int]:
        return {id: self.ask("GET", f"/products/{id}")[1]["in_stock"] for id in PRODUCTS}


class Customers:
    """Places orders from several threads, and counts their outcomes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._orders: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
        for number, product in zip(range(ORDERS), itertools.cycle(PRODUCTS)):
            self._orders.put([{"product": product, "quantity": 1 + number % 4}])
        self.answers: Counter[int | str] = Counter()
        self.ordered: Counter[str] = Counter()
        self.half_way = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._order_all) for _ in range(THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _order_all(self) -> None:
        while True:
            try:
                lines = self._orders.get_nowait()
            except queue.Empty:
                return
            answer, order = self._order(lines)
            with self._lock:
                self.answers[answer] += 1
                if answer == 201:
                    self.ordered.update({line["product"]: line["quantity"] for line in order["lines"]})
                if self.answers.total() == ORDERS // 2:
                    self.half_way.set()

    def _order(self, lines: list[dict[str, Any]]) -> tuple[int | str, Any]:
        try:
            return self._client.ask("POST", "/orders", {"lines": lines})
        except Exception as exc:
            return type(exc).__name__, None


class Shop:
    """A Redis server and the three services, each in its own process."""

    def __init__(self, redis_server: str, folder: str) -> None:
        self._processes = Processes()
        self._folder = folder
        self._ports = port, redis_port = free_port(), free_port()
        self.client = Client(port)
        self._processes.environment |= {
            "SHOP_ADDRESS": f"127.0.0.1:{port}",
            "SHOP_DB": f"sqlite:///{folder}/shop.db",
            "SHOP_REDIS": f"redis://127.0.0.1:{redis_port}/0",
        }
        options = ["--port", str(redis_port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        self._redis = subprocess.Popen([redis_server, *options], stdout=subprocess.DEVNULL)

    def is_open(self) -> bool:
        """Whether the gateway and Redis accept connections. Requests themselves wait for the other services."""
        return all(takes_connections(port) for port in self._ports)

    def run(self, service: str) -> subprocess.Popen[bytes]:
        journal = f"JOURNAL_FOLDER={self._folder}/journal"
        return self._processes.run(f"examples.shop.{service}", "-c", CONFIG, "-d", journal, "-d", QUIET)

    def show(self) -> None:
        """Serve a live map of the shop at a free port. The dashboard prints its address."""
        self._processes.command("dashboard", "--port", "0")

    def waiting_events(self) -> int:
        """The number of events that the orders service keeps for products, as `zmqservices events ls` shows it."""
        config = {"NAMESPACE": self._processes.environment["ZMQSERVICES_NAMESPACE"]}
        with ClusterRpcProxy(config, timeout=PATIENCE) as cluster:
            journals = cluster["events:orders"].stats()["journals"]
        return sum(group["waiting"] for journal in journals for group in journal["groups"])

    def end(self) -> None:
        self._processes.end()
        self._redis.terminate()
        self._redis.wait(PATIENCE)


def sell(shop: Shop) -> bool:
    """Run the demo in an open shop. Return whether every claim holds."""
    client = shop.client
    if "--no-dashboard" not in sys.argv:
        shop.show()
    products, _, _ = [shop.run(service) for service in ("products", "orders", "gateway")]
    if not wait_until(shop.is_open):
        raise SystemExit(f"the shop did not open within {PATIENCE:g} s")
    for id, title in PRODUCTS.items():
        answer = client.ask("POST", "/products", {"id": id, "title": title, "in_stock": IN_STOCK})
        if answer[0] != 201:
            raise SystemExit(f"{title} was not created: {answer}")
    customers = Customers(client)
    customers.start()
    customers.half_way.wait(PATIENCE * 2)
    products.send_signal(signal.SIGKILL)
    products.wait()
    print(f"the products service was killed (SIGKILL) half-way; events that wait for it: {shop.waiting_events()}")
    shop.run("products")
    customers.join()
    wanted = {id: IN_STOCK - customers.ordered[id] for id in PRODUCTS}
    wait_until(lambda: client.stock() == wanted)
    held = report(customers, wanted, client.stock())
    if "--stay" in sys.argv:
        stay(client)
    return held


def stay(client: Client) -> None:
    """Place orders until Ctrl-C, so that the live map has something to show."""
    print("\nOrders keep coming. Press Ctrl-C to end the demo.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        for product in itertools.cycle(PRODUCTS):
            client.ask("POST", "/orders", {"lines": [{"product": product, "quantity": 1}]})
            time.sleep(0.05)


def report(customers: Customers, wanted: dict[str, int], stock: dict[str, int]) -> bool:
    print(f"\n{ORDERS} orders over HTTP from {THREADS} threads\n")
    print(f"  {'product':<10s}  {'before':>8s}  {'ordered':>8s}  {'in stock':>8s}")
    for id in PRODUCTS:
        print(f"  {id:<10s}  {IN_STOCK:>8d}  {customers.ordered[id]:>8d}  {stock[id]:>8d}")
    claims = {
        f"every order was accepted (201); all answers: {dict(customers.answers)}": customers.answers[201] == ORDERS,
        "the stock went down by the ordered quantities: no event was lost or counted twice": stock == wanted,
    }
    print()
    for claim, held in claims.items():
        print(f"  {'yes' if held else 'NO '}  {claim}")
    return all(claims.values())


def main() -> int:
    print("\nThe airship shop: gateway (HTTP), orders (SQLite), products (Redis)\n", flush=True)
    redis_server = shutil.which("redis-server")
    if redis_server is None:
        print("The shop needs redis-server, which is not installed (on Debian: apt install redis-server). It is left out.")
        return 0
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        shop = Shop(redis_server, folder)
        try:
            held = sell(shop)
        finally:
            shop.end()
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
