"""The probes that the setting PROBES names: one of each for the whole process, while any runner that names it runs.

Internal. See `zmqservices.probes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zmqservices import probes
from zmqservices.constants import PROBES_CONFIG_KEY
from zmqservices.exceptions import ConfigurationError
from zmqservices.utils import import_from_path

#: The attached probes by their paths, and how many runners use each.
_attached: dict[str, tuple[probes.Probe, int]] = {}


def attach_configured(config: Mapping[str, Any]) -> list[str]:
    """Attach what PROBES names, and return the paths for `detach_configured`.

    Raises ConfigurationError for a path that names no probe.
    """
    paths: list[str] = []
    try:
        for path in _paths(config):
            probe, users = _attached.get(path) or (_made(path), 0)
            if not users:
                probes.attach(probe)
            _attached[path] = (probe, users + 1)
            paths.append(path)
    except BaseException:
        detach_configured(paths)
        raise
    return paths


def detach_configured(paths: list[str]) -> None:
    """These paths are not used any more; a probe that nobody else uses is detached."""
    while paths:
        path = paths.pop()
        probe, users = _attached.pop(path)
        if users > 1:
            _attached[path] = (probe, users - 1)
        else:
            probes.detach(probe)


def _paths(config: Mapping[str, Any]) -> list[str]:
    found = config.get(PROBES_CONFIG_KEY)
    paths = [found] if isinstance(found, str) else found or []
    if not (isinstance(paths, list) and all(isinstance(path, str) for path in paths)):
        mend = "a list of dotted paths is needed, such as [shop.probes.Slow]"
        raise ConfigurationError(f"{PROBES_CONFIG_KEY} is {found!r:.200}; {mend}")
    return paths


def _made(path: str) -> probes.Probe:
    mend = f"{PROBES_CONFIG_KEY} names {path!r:.200}; a subclass of zmqservices.probes.Probe is needed"
    try:
        made = import_from_path(path)
        probe = made() if isinstance(made, type) else made
    except Exception as error:
        raise ConfigurationError(f"{mend}: {type(error).__name__}: {error}") from error
    if not isinstance(probe, probes.Probe):
        raise ConfigurationError(f"{mend}, and that is {probe!r:.80}")
    return probe
