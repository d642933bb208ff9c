"""Decides which pages of other origins may read responses of this server (the Fetch standard's CORS protocol).

Internal. Services use `zmqservices.web.handlers`.

Rule 1: pure. Headers of a request go in, headers for the response come out.
Rule 2: off by default. An origin that is not allowed gets no header, and the browser then refuses access.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from zmqservices.constants import WEB_SERVER_CORS_CONFIG_KEY as KEY
from zmqservices.exceptions import ConfigurationError

#: Every origin.
ANY = "*"


@dataclass(frozen=True)
class Cors:
    """The CORS settings.

    `origins`: such as ("https://shop.example",), or ("*",) for all. `headers`: further headers that pages may send, besides the
    simple ones. `expose`: headers that pages may read. `credentials`: whether cookies may be sent. `max_age`: seconds for which
    a browser may remember the response to a preflight request.
    """

    origins: tuple[str, ...]
    headers: tuple[str, ...] = ("content-type", "authorization")
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 600

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Cors | None:
        """Read the settings; None if there are none. Raises ConfigurationError, which quotes the value, for a wrong one."""
        value = config.get(KEY)
        if value is None:
            return None
        if not isinstance(value, Mapping) or not value.get("origins"):
            raise ConfigurationError(f"{KEY} is {value!r}; a mapping with `origins` is needed, such as {{origins: ['*']}}")
        known = {field.name: _KINDS[field.name] for field in fields(cls)}
        for name in value:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                raise ConfigurationError(
                    f"{KEY} has no option {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}")
                )
        cors = cls(**{name: known[name](name, given) for name, given in value.items()})
        if cors.credentials and ANY in cors.origins:
            raise ConfigurationError(f"{KEY} allows credentials and every origin; browsers refuse that, so name the origins")
        return cors

    def allows(self, origin: str) -> bool:
        """Whether pages of `origin` may read responses."""
        return ANY in self.origins or origin in self.origins

    def answer(self, origin: str | None) -> list[tuple[str, str]]:
        """The headers for each response to a request whose Origin header is `origin`."""
        vary = [] if ANY in self.origins else [("Vary", "Origin")]
        if origin is None or not self.allows(origin):
            return vary
        headers = [("Access-Control-Allow-Origin", ANY if ANY in self.origins else origin), *vary]
        if self.credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        if self.expose:
            headers.append(("Access-Control-Expose-Headers", ", ".join(self.expose)))
        return headers

    def preflight(self, origin: str | None, methods: Iterable[str]) -> list[tuple[str, str]]:
        """The further headers for the response to a preflight request (OPTIONS)."""
        if origin is None or not self.allows(origin):
            return []
        return [
            ("Access-Control-Allow-Methods", ", ".join(sorted(methods))),
            ("Access-Control-Allow-Headers", ", ".join(self.headers)),
            ("Access-Control-Max-Age", str(self.max_age)),
        ]


def _texts(name: str, value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) and text for text in texts):
        raise ConfigurationError(f"{name} of {KEY} is {value!r}; a list of texts is needed")
    return tuple(text.rstrip("/") for text in texts)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} of {KEY} is {value!r}; true or false is needed")
    return value


def _seconds(name: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{name} of {KEY} is {value!r}; a whole number of seconds is needed")
    return value


_KINDS: dict[str, Any] = {
    "origins": _texts, "headers": _texts, "expose": _texts, "credentials": _flag, "max_age": _seconds,
}  # fmt: skip
