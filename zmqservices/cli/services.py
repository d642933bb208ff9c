"""Imports the service classes that `MODULE[:CLASS]` on the command line names."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from zmqservices.cli import own_packages
from zmqservices.exceptions import CommandError


def import_service(name: str) -> list[type]:
    """The class `MODULE:CLASS`, or every class in `MODULE` with entrypoints, also imported ones.

    Raises CommandError if there is no such module or class. An error of the module itself is raised as it is.
    """
    module_name, colon, class_name = name.partition(":")
    module = _import(module_name)
    return [_class_of(module, class_name)] if colon else _classes_in(module)


def import_services(names: Iterable[str]) -> list[type]:
    """The classes of all names, in order and without duplicates. Raises CommandError also for an error of a module."""
    return list(dict.fromkeys(cls for name in names for cls in _told(name)))


def _told(name: str) -> list[type]:
    try:
        return import_service(name)
    except CommandError:
        raise
    except Exception as error:
        raise broken(name, error) from error


def _import(name: str) -> ModuleType:
    if name.endswith(".py") and Path(name).exists():
        meant = name.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise CommandError(f"{name!r} is a file, not a module; did you mean {meant!r}?")
    if own_packages.is_own(name) and own_packages.hidden_in(Path.cwd()):
        raise CommandError(
            f"the module {name!r} has the name of a package of zmqservices, which is imported in its place; rename it"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            hint = _near_module(name, error.name)
            raise CommandError(f"there is no module {name!r} in this folder or on the Python path{hint}") from error
        raise
    except (ValueError, TypeError) as error:
        if not name or name.startswith("."):
            raise broken(name, error) from error
        raise


def _near_module(name: str, missing: str) -> str:
    """A hint at the module that was probably meant. `missing`: the part of `name` that was not found."""
    import difflib
    import pkgutil

    package, _, last = missing.rpartition(".")
    folders = getattr(sys.modules.get(package), "__path__", ()) if package else (str(Path.cwd()),)
    near = difflib.get_close_matches(last, [one.name for one in pkgutil.iter_modules(list(folders))], n=1)
    return f"; did you mean {package + '.' * bool(package) + near[0] + name[len(missing):]!r}?" if near else ""


def broken(name: str, error: Exception) -> CommandError:
    """Say where the module in `MODULE[:CLASS]` raised an error when it was imported."""
    # Imported here, since it imports gevent: completion of a command line needs none.
    from zmqservices.cli.failures import users_frame

    frame = users_frame(error)
    where = "" if frame is None else f" ({frame.filename}, line {frame.lineno})"
    return CommandError(f"the module {name.partition(':')[0]!r} cannot be imported: {type(error).__name__}: {error}{where}")


def _class_of(module: ModuleType, name: str) -> type:
    cls = getattr(module, name, None)
    if cls is None:
        raise CommandError(f"there is no class {name!r} in the module {module.__name__!r}{_services_in(module)}")
    if not inspect.isclass(cls):
        raise CommandError(f"{module.__name__}:{name} is {cls!r}; a service is a class")
    return cls


def _services_in(module: ModuleType) -> str:
    names = sorted(name for name, cls in inspect.getmembers(module, inspect.isclass) if has_entrypoints(cls))
    return f"; its services are {', '.join(names[:10])}" if names else ""


def _classes_in(module: ModuleType) -> list[type]:
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if has_entrypoints(cls)]
    if not classes:
        raise CommandError(
            f"no service in the module {module.__name__!r}: none of its classes has a method with an entrypoint, such as @rpc"
        )
    return list(dict.fromkeys(classes))


def has_entrypoints(cls: type) -> bool:
    """Whether some method of the class is an entrypoint."""
    return bool(inspect.getmembers(cls, is_entrypoint))


def is_entrypoint(method: object) -> bool:
    """Whether the method has an entrypoint decorator."""
    from zmqservices.extensions import ENTRYPOINT_EXTENSIONS_ATTR

    return inspect.isroutine(method) and hasattr(method, ENTRYPOINT_EXTENSIONS_ATTR)
