"""The page in a real browser, on the shop under load: an instance is killed, dead letters are changed, names are hostile."""

import textwrap

import gevent
import pytest

from tests.contrib import servers
from tests.dashboard.page import PATIENCE, Page
from tests.dashboard.shop import GATEWAY, ORDERS, PRODUCTS, Shop

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


@pytest.fixture(autouse=True)
def bound_on_time():
    """A browser and six processes take their time to start on a busy machine."""
    with gevent.Timeout(115):
        yield


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "odd.py").write_text(textwrap.dedent(ODD))
    with servers.redis_server() as redis_url:
        shop = Shop(tmp_path, redis_url)
        try:
            yield shop
        finally:
            shop.end()


@pytest.mark.system
@pytest.mark.timeout(120)
def test_the_map_of_the_shop(shop, tmp_path):
    doomed, everything = shop.run_services(PRODUCTS), shop.run_services(PRODUCTS, ORDERS, GATEWAY, "odd:Odd")
    operating, reading = shop.run_dashboard("--operate"), shop.run_dashboard()
    url, reading_url = (one.line("dashboard: http://").partition(": ")[2] for one in (operating, reading))
    for process in (doomed, everything):
        process.line("Services started")
    shop.begin_load()

    with Page(tmp_path / "browser", url) as page:
        # Who calls whom, and who has events of whom, with rates.
        page.until("document.querySelectorAll('.card.service').length === 4")
        page.until(f"{EDGE}('gateway', 'orders') && {EDGE}('(clients)', 'gateway') && {EDGE}('orders', 'products', 'event')")
        page.until("/[1-9]/.test(document.querySelector('[data-service=orders] .numbers').textContent)")
        page.until("document.querySelectorAll('[data-service=products] .mark.up').length === 2")

        assert page.run(FORMATS) == [
            "▲ 1.0/s errors · 22 s running", "▲ 1.0/s · 22 s · 1,000 queued", "0.99/s", "1.0/s", "9.9/s", "10/s", "1.2k/s",
            "Nothing has happened yet.",
        ]  # fmt: skip
        kill_an_instance(page, shop, doomed)
        change_dead_letters(page, shop, url, reading_url)
        go_by_keyboard(page)
        look_at_it_on_a_telephone(page)

        # Markup in names and errors stayed text all the while.
        assert page.run("document.querySelectorAll('main img, main script').length") == 0
        assert page.complaints == []


#: How texts are made, and what an empty timeline says. The module of the timeline is a new one, which has drawn nothing.
FORMATS = """Promise.all([import('/format.js'), import('/timeline.js?new')]).then(([show, timeline]) => {
    const warnings = [{text: '▲ 1.0/s errors', short: '▲ 1.0/s'}, {text: '22 s running', short: '22 s'}];
    const queued = {text: '1,000 queued', short: '1,000 queued'};
    const list = document.createElement('ol');
    timeline.drawTimeline(list, [], {services: []}, () => {});
    const fitting = [show.fitting(warnings, 29), show.fitting([...warnings, queued], 29)];
    return [...fitting, ...[0.994, 0.996, 9.94, 9.96, 1234].map(show.rate), list.textContent];
})"""


EDGE = """((from, to, kind = '') => [...document.querySelectorAll('.edge')].some((edge) => edge.classList.contains(kind || 'edge')
    && edge.getAttribute('aria-label').includes(from) && edge.getAttribute('aria-label').includes(to)))"""


#: Seconds after which the page shows that an instance was killed: the promise of docs/observability.rst.
SHOWN_WITHIN = 2.0
#: Another load may take the processors away for seconds, so one of so many kills has to be shown in time.
KILLS = 3


def kill_an_instance(page, shop, doomed):
    taken = []
    for _ in range(KILLS):
        page.until("document.querySelectorAll('[data-service=products] .mark.up').length === 2")
        # The dashboard connects to an instance when it is listed; two pictures later it has done so.
        page.run("window.waited = Number(document.body.dataset.pictures) + 2")
        page.until("Number(document.body.dataset.pictures) >= window.waited")
        lost = 1 + page.run("document.querySelectorAll('[data-service=products] .mark.lost').length")
        page.note(f"document.querySelectorAll('[data-service=products] .mark.lost').length === {lost}")

        killed_at = doomed.kill()

        taken.append(page.noted() - killed_at)
        print(f"the page showed a killed instance after {taken[-1] * 1e3:.0f} ms")
        if taken[-1] < SHOWN_WITHIN:
            break
        doomed = shop.run_services(PRODUCTS)
    assert min(taken) < SHOWN_WITHIN, taken
    page.until("[...document.querySelectorAll('#timeline li.bad')].some((row) => /lost.*products/s.test(row.textContent))")
    assert page.run("document.querySelectorAll('[data-service=products] .mark.up').length") == 1


def change_dead_letters(page, shop, url, reading_url):
    for text in ("<b>one</b>", "<b>two</b>"):
        shop.run("call", "<img src=x onerror=alert(1)>.tell", text).process.wait(PATIENCE)

    # A dashboard without --operate shows them. Its buttons are off, and its server refuses what they would send.
    page.go(reading_url)
    open_dead_letters(page, count=2)
    assert "Read-only. Start the dashboard with --operate" in page.run("document.getElementById('panel').innerText")
    page.until("[...document.querySelectorAll('#panel .row button')].every((button) => button.disabled)")
    page.run(f"(button => {{ button.disabled = false; button.click(); }})({DROP_FIRST})")
    page.until("/this dashboard is read-only/.test(document.querySelector('#panel .problem')?.textContent)")
    assert "403" in page.complaints.pop()

    # With --operate one is dropped, if the user confirms that, and one requeued.
    page.go(url)
    open_dead_letters(page, count=2)
    oldest = "[...document.querySelectorAll('#panel .facts div')].find((one) => one.textContent.startsWith('oldest'))"
    assert page.run(f"{oldest}.textContent") == "oldest–", "nothing waits"
    page.run(HALF_DONE)
    page.run("document.querySelector('#panel .letter button').click()")
    page.until("document.querySelector('#panel .note')?.textContent === '1 requeued'")
    page.until("document.querySelector('#panel .problem')?.textContent === 'tcp://gone: RpcTimeout'")
    page.run("window.fetch = window.usualFetch")
    page.answers = False
    page.run(f"{DROP_FIRST}.click()")
    page.answers = True
    page.run(f"{DROP_FIRST}.click()")
    page.until("document.querySelector('#panel .note')?.textContent === '1 dropped'")
    page.until("document.querySelectorAll('#panel .letter').length === 1")
    assert page.questions == ["Drop this dead letter? This cannot be undone."] * 3
    assert "<b>two</b>" in page.run("document.querySelector('#panel .letter').textContent")

    (shop.folder / "mended").touch()
    page.run("document.querySelector('#panel .letter button').click()")

    page.until("document.querySelector('#panel .note')?.textContent === '1 requeued'")
    page.until("document.querySelector('#panel').textContent.includes('There are none')")


#: From now on, one of two publishers does not answer when dead letters are changed.
HALF_DONE = """
    window.usualFetch = window.fetch;
    window.fetch = (url, options) => options
        ? Promise.resolve(new Response('{"count": 1, "problems": ["tcp://gone: RpcTimeout"]}')) : usualFetch(url);
"""
DROP_FIRST = "document.querySelector('#panel .letter button.danger')"


def open_dead_letters(page, count):
    page.until("document.querySelector('.edge.event.bad')")
    page.run("document.querySelector('.edge.event.bad').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    page.until(f"document.querySelectorAll('#panel .letter').length === {count}")


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
    # The contract that the link leads to is that of the running service.
    link = "document.querySelector('#panel a[data-key=contract]').href"
    page.run(f"fetch({link}).then(async (answer) => window.contract = await answer.json())")
    page.until("Object.keys(window.contract?.asyncapi?.operations || {}).length")
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
