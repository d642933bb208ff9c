"""The one place where the standard library is monkey-patched."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

from zmqservices.cli import multiprocess
from zmqservices.cli.import_hooks import ImportHook


def monkey_patch() -> None:
    """Make the standard library cooperate with greenlets. Call this before any heavy import.

    `ssl` is patched when it is imported. With OpenSSL it costs 5 MB and 20 ms, and most services never need it.
    """
    from importlib import metadata

    from gevent import monkey

    # gevent searches all installed packages for plugins before and after each module: 23 searches, at least 200 ms.
    installed = metadata.entry_points()
    # Replaced in gevent, since `patch_all(ssl=False)` would make gevent warn in a service that patches everything again.
    patch_ssl = monkey.patch_ssl if "ssl" in sys.modules else _patch_ssl_when_imported
    with _replaced(metadata, "entry_points", installed.select), _replaced(monkey, "patch_ssl", patch_ssl):
        monkey.patch_all()
    multiprocess.patch_when_imported()


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    own = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, own)


def _patch_ssl_when_imported(*args: object, **kwargs: object) -> None:
    sys.meta_path.insert(0, SslHook())


class SslHook(ImportHook):
    """Patches `ssl` once it has been imported. `ssl` and `gevent.ssl` import each other, so it waits for the outer one."""

    NAMES = ("ssl", "gevent.ssl")

    def __init__(self) -> None:
        #: Which of the two modules are being executed, the outermost first.
        self._running: list[str] = []
        self._is_patching = False

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return None if self._is_patching else super().find_spec(fullname, path, target)

    def run(self, module: ModuleType, execute: Callable[[ModuleType], None]) -> None:
        self._running.append(module.__name__)
        try:
            execute(module)
        finally:
            self._running.pop()
        if self._running or self not in sys.meta_path:
            return
        self._is_patching = True
        try:
            _patch_ssl()
            sys.meta_path.remove(self)
        finally:
            self._is_patching = False


def _patch_ssl() -> None:
    from gevent import monkey

    # Imported by name, since one of the two is still being imported.
    monkey.patch_module(import_module("ssl"), import_module("gevent.ssl"))


def import_from_here() -> None:
    """Let modules of the current directory be imported, as `python -m` would."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
