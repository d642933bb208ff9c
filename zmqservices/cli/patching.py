"""The one place where the standard library is monkey-patched."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast

from zmqservices.cli import multiprocess


def monkey_patch() -> None:
    """Make the standard library cooperate with greenlets. To be called before anything heavy is imported.

    `ssl` is patched when somebody imports it: with OpenSSL it takes 5 MB and 20 ms, which most services never need.
    """
    from importlib import metadata

    from gevent import monkey

    # gevent looks for plugins before and after each module: 23 times through all that is installed, 200 ms and more.
    installed = metadata.entry_points()
    # The name that `patch_all` calls. Its own `ssl=False` would make it warn in a service that patches everything again.
    patch_ssl = monkey.patch_ssl if "ssl" in sys.modules else _patch_ssl_when_imported
    with _replaced(metadata, "entry_points", installed.select), _replaced(monkey, "patch_ssl", patch_ssl):
        monkey.patch_all()
    multiprocess.patch_when_imported()


@contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    own = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, own)


def _patch_ssl_when_imported(*args: Any, **kwargs: Any) -> None:
    sys.meta_path.insert(0, PatchedWhenImported())


class PatchedWhenImported:
    """Finds `ssl` and `gevent.ssl`, which import each other; patches once the one that was asked for has run."""

    NAMES = ("ssl", "gevent.ssl")

    def __init__(self) -> None:
        #: The modules of the two that are being run, the outermost first.
        self._running: list[str] = []
        self._is_patching = False

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.NAMES or self._is_patching:
            return None
        others = (finder.find_spec(name, path, target) for finder in tuple(sys.meta_path) if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = cast(Any, _Loader(spec.loader, self))
        return spec

    def run(self, module: ModuleType, execute: Callable[[ModuleType], None]) -> None:
        """Execute a module of the two."""
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

    # By their names, as one of the two is still being imported.
    monkey.patch_module(import_module("ssl"), import_module("gevent.ssl"))


class _Loader:
    """A module's own loader, which the module gets back once it is there."""

    def __init__(self, loader: Any, finder: PatchedWhenImported) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._finder.run(module, self._loader.exec_module)

    def __getattr__(self, name: str) -> Any:
        # Who looks at the spec before the module is imported.
        return getattr(self._loader, name)


def import_from_here() -> None:
    """Let modules of the current directory be imported, as `python -m` would."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
