"""Runs a real browser without a window. It opens a page of the service under test, and the page reports its results."""

import os
import shutil
import subprocess

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
)  # fmt: skip


def find():
    """The path of a browser. If there is none, the test is skipped; in CI it fails."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        why = f"no browser is installed (one of {', '.join(NAMES)})"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{why}, and CI must test with one")
        pytest.skip(f"NOT TESTED with a browser: {why}")
    return path


class Browser:
    """`with Browser(folder) as browser: browser.open(url)`; `folder` is for its profile and what it says."""

    def __init__(self, folder):
        self.path = find()
        self.folder = folder
        self._process = None

    def __enter__(self):
        return self

    def open(self, url):
        with open(self.folder / "browser.log", "wb") as log:
            # Debugging keeps it open; nobody connects.
            self._process = subprocess.Popen(
                [self.path, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={self.folder / 'profile'}", url],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def __exit__(self, *exc_info):
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def pid(self):
        return self._process.pid

    @property
    def log(self):
        return (self.folder / "browser.log").read_text(errors="replace")
