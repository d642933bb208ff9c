"""The page in a real browser, on the shop under load: an instance is killed, a dead letter is requeued, names are hostile."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gevent
import pytest

from examples.shop.demo import CONFIG
from tests.contrib import servers
from tests.dashboard.page import PATIENCE, Page
from tests.ports import free_port
from tests.system.processes import Guardian

HOME = Path(__file__).parents[2]

#: A service whose name, errors and events are markup. Its handler fails until a file is there.
ODD = """
    from pathlib import Path
    from zmqservices.events import EventDispatcher, event_handler
    from zmqservices.rpc import rpc
    from zmqservices.timer import timer

    MARKUP = "<img src=x onerror=alert(1)>"


    class Odd:
        name = MARKUP
        dispatch = EventDispatcher()

        @rpc
        def tell(self, text):
            self.dispatch("<script>alert(2)</script>", text)

        @timer(interval=0.5)
        def fail(self):
            raise LookupError(MARKUP + "</pre><script>alert(3)</script>")

        @event_handler(MARKUP, "<script>alert(2)</script>", max_deliveries=1)
        def handle(self, text):
            if not Path("mended").exists():
                raise ConnectionError(text)
"""


class Stage:
    """The processes: twice the shop's products, the rest of the shop with Odd, and a dashboard that may operate."""

    def __init__(self, folder, redis_url):
        self.folder = folder
        self.web_port = free_port()
        self._guardian = Guardian()
        self._processes = []
        self._lines = {}
        self._environment = {
            **os.environ, "PYTHONPATH": f"{HOME}{os.pathsep}{folder}", "ZMQSERVICES_LOCAL_PORT": str(free_port()),
            "SHOP_ADDRESS": f"127.0.0.1:{self.web_port}", "SHOP_DB": f"sqlite:///{folder}/shop.db", "SHOP_REDIS": redis_url,
        }  # fmt: skip
        self.is_over = threading.Event()
        self._load = threading.Thread(target=self._order_on)

    def run(self, *arguments, until):
        """Start a command, and return the line that it prints when it is up."""
        log = self.folder / f"{len(self._processes)}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "zmqservices", *arguments], cwd=self.folder, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._guardian.watch(process.pid)
        self._processes.append(process)
        return process, lambda: self._line(log, until)

    @staticmethod
    def _line(log, wanted):
        end = time.monotonic() + PATIENCE * 1.5
        while time.monotonic() < end:
            for line in log.read_text(errors="replace").splitlines():
                if wanted in line:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"no {wanted!r} in:\n{log.read_text(errors='replace')[-3000:]}")

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
            process.wait(PATIENCE)
            self._guardian.forget(process.pid)
        self._guardian.close()


@pytest.fixture(autouse=True)
def bound_on_time():
    """A browser and six processes take their time to start on a busy machine."""
    with gevent.Timeout(115):
        yield


@pytest.fixture
def stage(tmp_path):
    import textwrap

    (tmp_path / "odd.py").write_text(textwrap.dedent(ODD))
    with servers.redis_server() as redis_url:
        stage = Stage(tmp_path, redis_url)
        try:
            yield stage
        finally:
            stage.end()


@pytest.mark.system
@pytest.mark.timeout(120)
def test_the_map_of_the_shop(stage, tmp_path):
    settings = ("-c", CONFIG, "-d", f"JOURNAL_FOLDER={tmp_path / 'journal'}")
    doomed, doomed_is_up = stage.run("run", "examples.shop.products", *settings, until="Services started")
    shop = ("examples.shop.products", "examples.shop.orders", "examples.shop.gateway", "odd:Odd")
    _, shop_is_up = stage.run("run", *shop, *settings, until="Services started")
    _, dashboard_is_up = stage.run("dashboard", "--port", "0", "--operate", until="dashboard: http://")
    doomed_is_up(), shop_is_up()
    url = dashboard_is_up().partition(": ")[2]
    stage.begin_load()

    with Page(tmp_path / "browser", url) as page:
        # Who calls whom, and who has events of whom, with rates.
        page.until("document.querySelectorAll('.card.service').length === 4")
        page.until(f"{EDGE}('gateway', 'orders') && {EDGE}('(clients)', 'gateway') && {EDGE}('orders', 'products', 'event')")
        page.until("/[1-9]/.test(document.querySelector('[data-service=orders] .numbers').textContent)")
        page.until("document.querySelectorAll('[data-service=products] .mark.up').length === 2")

        kill_an_instance(page, doomed)
        requeue_a_dead_letter(page, stage)
        go_by_keyboard(page)
        look_at_it_on_a_telephone(page)

        # Markup in names and errors stayed text all the while.
        assert page.run("document.querySelectorAll('main img, main script').length") == 0
        assert page.complaints == []


EDGE = """((from, to, kind = '') => [...document.querySelectorAll('.edge')].some((edge) => edge.classList.contains(kind || 'edge')
    && edge.getAttribute('aria-label').includes(from) && edge.getAttribute('aria-label').includes(to)))"""


def kill_an_instance(page, process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)

    page.until("document.querySelector('[data-service=products] .mark.lost')")
    page.until("[...document.querySelectorAll('#timeline li.bad')].some((row) => /lost.*products/s.test(row.textContent))")
    assert page.run("document.querySelectorAll('[data-service=products] .mark.up').length") == 1


def requeue_a_dead_letter(page, stage):
    stage.run("call", "<img src=x onerror=alert(1)>.tell", "<b>hello</b>", until="")[0].wait(PATIENCE)
    page.until("document.querySelector('.edge.event.bad')")
    page.run("document.querySelector('.edge.event.bad').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    page.until("document.querySelector('#panel .letter')")
    assert "<b>hello</b>" in page.run("document.querySelector('#panel .letter').textContent")

    (stage.folder / "mended").touch()
    page.run("document.querySelector('#panel .letter button').click()")

    page.until("document.querySelector('#panel .note')?.textContent === '1 requeued'")
    page.until("document.querySelector('#panel').textContent.includes('There are none')")


def go_by_keyboard(page):
    page.press("Escape")
    page.until("document.getElementById('panel').hidden")
    page.press("/", "/")
    page.until("document.activeElement.id === 'find'")
    page.ask("Input.insertText", text="orders")
    page.press("Enter")
    page.until("document.activeElement.dataset.service === 'orders'")
    page.press("Enter")
    page.until("document.querySelector('#panel h2')?.textContent === 'orders' && document.querySelector('#panel summary')")
    page.until("/Called by/.test(document.querySelector('#panel').textContent)")
    assert "[object" not in page.text
    page.run("document.querySelector('#panel summary').focus()")
    page.press("Enter")
    page.until("document.querySelector('#panel details[open] .histogram')")
    page.press("Escape")
    page.until("document.activeElement.dataset.service === 'orders'")
    page.press("ArrowLeft")
    page.until("document.activeElement.dataset.service === 'gateway'")


def look_at_it_on_a_telephone(page):
    page.press("t", "t")
    page.resize(360, 700)
    page.until("document.querySelector('#table tbody').innerText.startsWith('orders')")
    page.run("(box => { box.value = ''; box.dispatchEvent(new Event('input')); })(document.getElementById('find'))")
    page.until("document.querySelectorAll('#table tbody tr').length === 4")
    assert page.run("document.documentElement.scrollWidth") <= 360
    page.run("[...document.querySelectorAll('#table button')].find((one) => one.textContent === 'products').click()")
    page.until("document.querySelector('#panel h2')?.textContent === 'products'")
    assert page.run("document.getElementById('panel').getBoundingClientRect().width") == 360
    page.press("Escape")
