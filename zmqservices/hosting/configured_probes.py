"""Attaches the probes of the settings PROBES and OTEL. The process has one of each while any runner that names it runs.

Internal. See `zmqservices.probes`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from zmqservices import configuration, probes
from zmqservices.constants import DEFAULT_OTEL, OTEL_CONFIG_KEY, PROBES_CONFIG_KEY
from zmqservices.exceptions import ConfigurationError
from zmqservices.utils import import_from_path

_log = logging.getLogger(__name__)

#: The probe for the setting OTEL.
TRACING = "zmqservices.observability.tracing.ExportedTracing"

#: The attached probes by path, each with the number of runners that use it.
_attached: dict[str, tuple[probes.Probe, int]] = {}


def attach_configured(config: Mapping[str, Any]) -> list[str]:
    """Attach the probes of PROBES and OTEL. Returns their paths for `detach_configured`.

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


def detach_configured(paths: list[str], is_killed: bool = False) -> None:
    """Stop using these probes, and detach each that no other runner uses.

    If the probe has a method `close`, it is called, which may take a while; it is not called if the services were killed.
    """
    while paths:
        path = paths.pop()
        probe, users = _attached.pop(path)
        if users > 1:
            _attached[path] = (probe, users - 1)
        else:
            probes.detach(probe)
            if not is_killed:
                _close(probe)


def _paths(config: Mapping[str, Any]) -> list[str]:
    found = config.get(PROBES_CONFIG_KEY)
    paths = [found] if isinstance(found, str) else found or []
    if not (isinstance(paths, list) and all(isinstance(path, str) for path in paths)):
        mend = "a list of dotted paths is needed, such as [shop.probes.Slow]"
        raise ConfigurationError(f"{PROBES_CONFIG_KEY} is {found!r:.200}; {mend}")
    return [*paths, TRACING] if configuration.boolean(config, OTEL_CONFIG_KEY, DEFAULT_OTEL) else paths


def _close(probe: probes.Probe) -> None:
    close = getattr(probe, "close", None)
    if callable(close):
        try:
            close()
        except Exception:
            _log.exception("%s could not be closed", probe)


def _made(path: str) -> probes.Probe:
    if path == TRACING:
        return _tracing()
    mend = f"{PROBES_CONFIG_KEY} names {path!r:.200}; a subclass of zmqservices.probes.Probe is needed"
    try:
        made = import_from_path(path)
        probe = made() if isinstance(made, type) else made
    except Exception as error:
        raise ConfigurationError(f"{mend}: {type(error).__name__}: {error}") from error
    if not isinstance(probe, probes.Probe):
        raise ConfigurationError(f"{mend}, and that is {probe!r:.80}")
    return probe


def _tracing() -> probes.Probe:
    try:
        made = import_from_path(TRACING)
    except ImportError as error:
        raise ConfigurationError(f"{OTEL_CONFIG_KEY} is set, and {error}") from error
    probe: probes.Probe = made()
    return probe
