"""A page in a real browser without a window, driven over the browser's own protocol (CDP)."""

import base64
import json
import time
import urllib.request

import websocket

from tests.web.browser import Browser

#: Seconds that anything in the page may take on a busy machine.
PATIENCE = 30.0


class Page:
    """`with Page(folder, url) as page: page.until("document.title")`."""

    def __init__(self, folder, url, width=1280, height=800):
        folder.mkdir(exist_ok=True)
        self._browser = Browser(folder)
        self._url = url
        self._size = width, height
        self._number = 0
        #: What the page wrote to its console, and errors that nothing caught.
        self.complaints = []
        #: The answer to questions of the page, such as "Drop this dead letter?", and these questions.
        self.answers = True
        self.questions = []

    def __enter__(self):
        self._browser.__enter__()
        self._browser.open("about:blank")
        self._socket = websocket.create_connection(self._address(), timeout=PATIENCE, suppress_origin=True)
        for method in ("Page.enable", "Runtime.enable", "Log.enable"):
            self.ask(method)
        self.resize(*self._size)
        self.go(self._url)
        return self

    def __exit__(self, *exc_info):
        if hasattr(self, "_socket"):
            self._socket.close()
        self._browser.__exit__(*exc_info)

    def _address(self):
        port_file = self._browser.folder / "profile" / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                port = port_file.read_text().split()[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                    pages = [one for one in json.load(answer) if one["type"] == "page"]
                if pages:
                    return pages[0]["webSocketDebuggerUrl"]
            except (OSError, IndexError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"the browser did not start; it said: {self._browser.log[-2000:]}")

    def ask(self, method, **params):
        """One command of the protocol, and its result."""
        number = self._send(method, params)
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") == "Page.javascriptDialogOpening":
                self._answer(message["params"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]["exceptionDetails"])[:1000])
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(json.dumps(message["params"]["entry"])[:500])

    def _answer(self, dialog):
        """Close a dialog. Nothing is awaited: the command that opened it waits for that."""
        kept = self.questions if dialog["type"] == "confirm" else self.complaints
        kept.append(dialog["message"])
        self._send("Page.handleJavaScriptDialog", {"accept": self.answers})

    def _send(self, method, params):
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        return self._number

    @property
    def pid(self):
        """The process of the browser, which has others below it."""
        return self._browser.pid

    def go(self, url):
        """Open another page."""
        self.ask("Page.navigate", url=url)

    def run(self, script):
        """The value of an expression in the page, a promise's too."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, json.dumps(result["exceptionDetails"])[:1000]
        return result["result"].get("value")

    def until(self, script, patience=PATIENCE):
        """Wait until the expression is true."""
        end = time.monotonic() + patience
        # An element has no value that could be returned.
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < end, f"NOT TRUE in {patience} s: {script}\n{self.text[:3000]}\n{self.complaints}"
            time.sleep(0.05)

    def note(self, script):
        """From now on, the page itself notes when the expression became true and was painted. See `noted`."""
        self.run(f"""(() => {{
            window.noted = null;
            const observer = new MutationObserver(() => {{
                if (!({script})) return;
                observer.disconnect();
                requestAnimationFrame(() => {{ window.noted = performance.timeOrigin + performance.now(); }});
            }});
            observer.observe(document.body, {{subtree: true, childList: true, attributes: true, characterData: true}});
        }})()""")

    def noted(self):
        """When that was, in seconds since 1970 by the clock of this process. Waits for it."""
        self.until("window.noted")
        before = time.time()
        now = self.run("performance.timeOrigin + performance.now()") / 1000
        after = time.time()
        # The page computes its time from the start of the page, so an adjustment of the clock since then is taken out.
        return self.run("window.noted") / 1000 + (before + after) / 2 - now

    @property
    def text(self):
        return self.run("document.body.innerText")

    def press(self, key, text=None):
        """A key goes down and up."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9, " ": 32}.get(key, 0)
        named = {"key": key, "windowsVirtualKeyCode": code}
        text = {"Enter": "\r"}.get(key, text)
        self.ask("Input.dispatchKeyEvent", type="keyDown", **named, **({"text": text} if text else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **named)

    def resize(self, width, height):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 720)

    def media(self, **features):
        """Such as `prefers_color_scheme="dark"`."""
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.ask("Emulation.setEmulatedMedia", features=told)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
