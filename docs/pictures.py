"""Takes the pictures of the live map in docs/images again: `make pictures`.

Runs the shop example under load, with a service whose mails to one customer fail, kills an instance, and opens the page in a real
browser without a window. Needs redis-server and chromium. Look at the pictures before you commit them.
"""

import sys
import tempfile
import textwrap
import time
from pathlib import Path

from docs.palette import with_palette
from tests.contrib import servers
from tests.dashboard.page import Page
from tests.dashboard.shop import GATEWAY, ORDERS, PRODUCTS, Shop

IMAGES = Path(__file__).parent / "images"

MAILS = """
    from zmqservices.events import event_handler


    class Mails:
        name = "mails"

        @event_handler("orders", "order_created", max_deliveries=2)
        def confirm(self, order):
            \"\"\"Send the customer a confirmation.\"\"\"
            if order["lines"][0]["quantity"] == 7:
                raise ConnectionError("451 the mailbox is full, try again later")
"""

#: Seconds of load before the first picture, so that rates and curves have something to show.
LOAD = 20.0


def take(folder: Path) -> None:
    """Take all pictures."""
    (folder / "mails.py").write_text(textwrap.dedent(MAILS))
    with servers.redis_server() as redis_url:
        shop = Shop(folder, redis_url)
        try:
            # The first process hosts the directory, so it is not one that is killed.
            started = [shop.run_services(module) for module in (GATEWAY, ORDERS, PRODUCTS, PRODUCTS, "mails")]
            for process in started:
                process.line("Services started")
            url = shop.run_dashboard("--operate").line("dashboard: http://").partition(": ")[2]
            shop.begin_load()
            lines = [{"product": "zeppelin", "quantity": number} for number in (7, 1, 2)]
            for _ in range(3):
                shop.ask("POST", "/orders", {"lines": lines})
            with Page(folder / "browser", url, 1280, 720) as page:
                page.until("document.querySelector('.edge.event.bad')")
                time.sleep(LOAD)
                started[3].kill()
                look(page)
        finally:
            shop.end()


def look(page: Page) -> None:
    """The map, the dead letters in dark colours, and a narrow screen."""
    page.until("document.querySelector('[data-service=products] .mark.lost')")
    time.sleep(2.0)
    save(page, "dashboard")
    page.media(prefers_color_scheme="dark")
    page.run("document.querySelector('.edge.event.bad').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    page.until("document.querySelector('#panel .letter summary')")
    page.run("document.querySelector('#panel .letter summary').click()")
    page.run("document.querySelector('#map').scrollTo(1e4, 0)")
    save(page, "dashboard-dead-letters")
    page.press("Escape")
    page.press("t", "t")
    page.media(prefers_color_scheme="light")
    page.resize(390, 780)
    save(page, "dashboard-narrow")


def save(page: Page, name: str) -> None:
    """Take a picture after the next frame, and make it small."""
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
    path = IMAGES / f"{name}.png"
    page.screenshot(path)
    path.write_bytes(with_palette(path.read_bytes()))
    sys.stdout.write(f"{path}: {path.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("usage: python -m docs.pictures")
    with tempfile.TemporaryDirectory(prefix="shop-") as held:
        take(Path(held))
