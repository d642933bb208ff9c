"""The values that the shell completes: services, their methods, sources of events, modules.

Rule: if anything goes wrong, complete nothing and print nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

#: Seconds in which the directory must answer, since the user waits at the prompt.
TIMEOUT = 0.7
PREFIX = "events:"


def services(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of services."""
    return [name for name in sorted(_listed(ctx)) if name.startswith(incomplete) and not name.startswith(PREFIX)]


def methods(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """SERVICE.METHOD for every method that can be called."""
    names = {f"{service}.{method}" for service, methods in _listed(ctx).items() for method in methods}
    return [name for name in sorted(names) if name.startswith(incomplete) and not name.startswith(PREFIX)]


def sources(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Sources of events that have a publisher."""
    found = [name.removeprefix(PREFIX) for name in sorted(_listed(ctx)) if name.startswith(PREFIX)]
    return [name for name in found if name.startswith(incomplete)]


def modules(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Modules and packages in the working directory, or in the package that the user has typed so far."""
    try:
        package, _, start = incomplete.rpartition(".")
        folder = Path(*package.split(".")) if package else Path()
        names = [path.stem for path in folder.glob("*.py") if path.stem.isidentifier() and path.stem != "__init__"]
        names += [path.name for path in folder.iterdir() if path.name.isidentifier() and any(path.glob("*.py"))]
        return [f"{package}.{name}" if package else name for name in sorted(set(names)) if name.startswith(start)]
    except (OSError, TypeError):
        return []


def _listed(ctx: click.Context) -> dict[str, set[str]]:
    """The methods of each service, from the directory that the options on the line name."""
    from zmqservices.cli.listing import looked_up
    from zmqservices.cli.options import Flags

    given: dict[str, Any] = ctx.params
    try:
        flags = Flags(
            given.get("config_file"), tuple(given.get("define") or ()), given.get("directory"), given.get("namespace")
        )
        found: dict[str, set[str]] = {}
        with looked_up(flags.resolve(), TIMEOUT) as directory:
            for seen in directory.view().records.values():
                found.setdefault(seen.record.service, set()).update(seen.record.methods)
        return found
    except Exception:
        return {}
