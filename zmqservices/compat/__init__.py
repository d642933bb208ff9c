"""`import nameko` as a name for zmqservices, so that unchanged Nameko applications and extensions run here.

    from zmqservices import compat

    compat.install()
    from nameko.rpc import rpc          # is zmqservices.rpc.rpc

Rule 1: modules and classes are the same objects under both names.
Rule 2: importing this module changes nothing; `install` adds one finder, and `uninstall` removes it.
Rule 3: the real Nameko and this one are never mixed: `install` raises if the real one is already imported. The same holds for
eventlet.
Rule 4: `eventlet` becomes `zmqservices.compat.eventlet_names` only on request. If `kombu` is not installed, the names of its
types can be imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from zmqservices.removed import removed_names

__all__ = ["install", "is_installed", "uninstall"]

ALIAS = "nameko"
REAL = "zmqservices"


class _SameModule(Loader):
    """Loads a module under a second name, by returning the existing module."""

    def __init__(self, real_name: str) -> None:
        self._real_name = real_name
        self._own: dict[str, Any] = {}

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._real_name)
        # The import system sets the alias's spec on the module that is returned here.
        self._own = {name: vars(module).get(name) for name in ("__spec__", "__loader__", "__package__")}
        return module

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._own)


class _Finder(MetaPathFinder):
    """Finds `nameko` and its submodules in zmqservices."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        alias, dot, rest = fullname.partition(".")
        if alias != ALIAS:
            return None
        real_name = f"{REAL}{dot}{rest}"
        real = importlib.util.find_spec(real_name)
        if real is None:
            return None
        return ModuleSpec(
            fullname, _SameModule(real_name), is_package=real.submodule_search_locations is not None
        )


class _Names(Loader):
    """Makes a module from a table of names. Every other public name raises an ImportError that says what to use."""

    def __init__(self, names: dict[str, Any], sentence: Callable[[str], str]) -> None:
        self._names = names
        self._sentence = sentence

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(self._names, __all__=sorted(self._names))
        vars(module)["__getattr__"] = _removed(module.__name__, self._sentence)


def _removed(module: str, sentence: Callable[[str], str]) -> Callable[[str], Any]:
    def __getattr__(name: str) -> Any:
        if not name.startswith("_"):
            # Finds submodules: `from eventlet import greenthread`, or `eventlet.greenthread` after `import eventlet` alone.
            try:
                return importlib.import_module(f"{module}.{name}")
            except ModuleNotFoundError:
                pass
        return removed_names(module, {}, all_others=sentence(f"{module}.{name}"))(name)

    return __getattr__


class _NamesFinder(MetaPathFinder):
    """Finds one package, some of whose names exist here."""

    def __init__(self, package: str, source: str) -> None:
        self.package = package
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        # Imported late, because it imports gevent, and a program that only imports nameko may have to patch first.
        source = importlib.import_module(self._source)
        if fullname in source.MODULES:
            return ModuleSpec(fullname, _Names(source.MODULES[fullname], source.sentence), is_package=fullname == self.package)
        raise ModuleNotFoundError(f"{fullname} is not here: {source.sentence(fullname)}", name=fullname)


_finder = _Finder()
_eventlet = _NamesFinder("eventlet", f"{REAL}.compat.eventlet_names")
_kombu = _NamesFinder("kombu", f"{REAL}.compat.kombu_names")


def is_installed() -> bool:
    """Whether `import nameko` means zmqservices."""
    return _finder in sys.meta_path


def install(eventlet: bool = False) -> None:
    """Make `import nameko` and its submodules mean zmqservices. A second call does nothing.

    The real Nameko need not be installed; if it is, it is hidden. With `eventlet`, `import eventlet` finds those names of
    eventlet that gevent can provide (`zmqservices.compat.eventlet_names`). If kombu is not installed, the names of its types can
    be imported. Raises ImportError, and changes nothing, if the real Nameko (or, with `eventlet`, the real eventlet) was
    imported before.
    """
    if not is_installed():
        _refuse_imported(ALIAS)
    if eventlet and _eventlet not in sys.meta_path:
        _refuse_imported("eventlet")
        sys.meta_path.insert(0, _eventlet)
    if not is_installed():
        sys.meta_path.insert(0, _finder)
        if importlib.util.find_spec("kombu") is None:
            sys.meta_path.append(_kombu)


def _refuse_imported(name: str) -> None:
    imported = sys.modules.get(name)
    if imported is None:
        return
    where = getattr(imported, "__file__", None) or "somewhere"
    meaning, argument = ("zmqservices", "") if name == ALIAS else ("gevent", "eventlet=True")
    raise ImportError(
        f"the real {name} was imported already (from {where}), so `import {name}` cannot mean {meaning} any more; "
        f"call zmqservices.compat.install({argument}) before anything imports {name}, or use `zmqservices run --as-nameko`"
    )


def uninstall() -> None:
    """Undo `install`, for tests. Modules that have imported names keep them."""
    if is_installed():
        sys.meta_path.remove(_finder)
    for finder in (_eventlet, _kombu):
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name == finder.package or name.startswith(f"{finder.package}.")]:
                del sys.modules[name]
    for name in [name for name in sys.modules if name == ALIAS or name.startswith(f"{ALIAS}.")]:
        if sys.modules[name] is sys.modules.get(REAL + name.removeprefix(ALIAS)):
            del sys.modules[name]
