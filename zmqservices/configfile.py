"""Reads configuration files: YAML in which `${VAR}` and `${VAR:default}` stand for variables of the environment.

Internal. `zmqservices.configuration.load` is public.

    DIRECTORY: ${REGISTRIES:tcp://127.0.0.1:4190}
    rpc_timeout: ${TIMEOUT:5}
    password: !raw_env_var "${PASSWORD}"

Rule 1: an unquoted value is replaced without a tag, a quoted one only with `!env_var` or `!raw_env_var`.
Rule 2: the result is read as YAML again, so that "5" becomes a number; with `!raw_env_var` it stays a text.
Rule 3: a variable that is not set and has no default becomes None.
Rule 4: a variable whose value refers to itself is not replaced again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from zmqservices.exceptions import ConfigurationError

#: How deep braces may be nested in a default for ENV_VAR_MATCHER to match it. `expand` has no such bound.
BRACES = 10
_inside = r"[^{}]*+"
for _ in range(BRACES):
    _inside = rf"(?:[^{{}}]|\{{{_inside}\}})*+"
#: Matches `${NAME}` and `${NAME:default}`, with the name and the default as groups. Nameko applications import it.
ENV_VAR_MATCHER = re.compile(rf"\$\{{([^{{}}:\s]+)(?::((?!\}}){_inside})?)?\}}")
IMPLICIT_ENV_VAR_MATCHER = re.compile(r".*\$\{.*\}.*", re.DOTALL)
NAME = re.compile(r"[^{}:\s$]+")


class Reference(NamedTuple):
    """A `${name:default}` in a text, from `start` up to `end`."""

    start: int
    end: int
    name: str
    default: str


def references(text: str) -> Iterator[Reference]:
    """The outermost references in a text. A reference that is never closed is plain text."""
    at = text.find("${")
    while at >= 0:
        found = _reference_at(text, at)
        if found:
            yield found
        at = text.find("${", found.end if found else at + 2)


def _reference_at(text: str, start: int) -> Reference | None:
    name = NAME.match(text, start + 2)
    if not name or text[name.end() : name.end() + 1] not in (":", "}"):
        return None
    depth = 1
    for at in range(name.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return Reference(start, at + 1, name.group(), text[name.end() + 1 : at])
    return None


def expand(text: str, environ: Mapping[str, str], known: frozenset[str] = frozenset()) -> str:
    """`text` with its references replaced, also inside defaults. References to names in `known` stay."""
    parts, at = [], 0
    for reference in references(text):
        parts.append(text[at : reference.start])
        parts.append(_value(text, reference, environ, known))
        at = reference.end
    return "".join([*parts, text[at:]])


def _value(text: str, reference: Reference, environ: Mapping[str, str], known: frozenset[str]) -> str:
    if reference.name in known:
        return text[reference.start : reference.end]
    value = environ.get(reference.name)
    return expand(reference.default, environ, known) if value is None else value


class Loader(yaml.SafeLoader):
    """A safe YAML loader that replaces variables."""

    environ: Mapping[str, str] = os.environ
    #: The names that are being expanded (rule 4).
    known: frozenset[str] = frozenset()


def env_var_constructor(loader: Any, node: Any, raw: bool = False) -> Any:
    """The constructor of the tag `!env_var` (with `raw`, of `!raw_env_var`) for any PyYAML loader."""
    text = loader.construct_scalar(node)
    environ = getattr(loader, "environ", os.environ)
    known: frozenset[str] = getattr(loader, "known", frozenset())
    expanded = expand(text, environ, known)
    if raw or expanded == text:
        return expanded
    return _load(expanded, environ, known | {reference.name for reference in references(text)})


def setup_yaml_parser(loader: Any = yaml.SafeLoader) -> None:
    """Add the tags and the rule for unquoted values to a PyYAML loader class; by default to the one of `yaml.safe_load`."""
    yaml.add_constructor("!env_var", env_var_constructor, loader)
    yaml.add_constructor("!raw_env_var", partial(env_var_constructor, raw=True), loader)
    yaml.add_implicit_resolver("!env_var", IMPLICIT_ENV_VAR_MATCHER, Loader=loader)


setup_yaml_parser(Loader)


def _load(text: str, environ: Mapping[str, str], known: frozenset[str] = frozenset()) -> Any:
    loader = Loader(text)
    loader.environ, loader.known = environ, known
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def parse(text: str, where: str, environ: Mapping[str, str] = os.environ) -> Any:
    """The value of a YAML text. Raises ConfigurationError, which names `where`, the line and the column."""
    try:
        return _load(text, environ)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"{where}{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where}: {error}".splitlines()[0]) from error


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The settings in a YAML file; an empty file has none.

    Raises ConfigurationError if it cannot be read, is no YAML, or does not consist of keys with values.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"the configuration file {str(path)!r} cannot be read: {reason}") from error
    settings = parse(text, str(path), environ)
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        kind = type(settings).__name__
        raise ConfigurationError(f"{path}, line 1: keys with values are needed (`key: value`), not a {kind}")
    return settings
