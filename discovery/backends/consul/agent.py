"""Requests to one agent of Consul, and a sentence for everything that goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any
from urllib.parse import quote

from discovery.backends.consul.key_values import KeyValue, decode_keys, next_index
from discovery.backends.http_connection import HttpAnswer, HttpConnection
from discovery.backends.stream import name_of
from discovery.backends.tls import tls_context
from discovery.backends.urls import EngineUrl
from discovery.client.patience import Patience
from discovery.exceptions import EngineError, EngineRefusal
from discovery.protocol import MAX_HELD

#: Seconds to connect, and to wait for an answer at first. An agent without a leader answers with an error.
TIMEOUT = 5.0
#: The most bytes of an answer, as of a registry's snapshot: an answer may hold all records.
LONGEST_ANSWER = MAX_HELD


class SessionEndedError(EngineError):
    """Consul does not know the session of this process any more."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The keys under a prefix, and the index to ask with for their next change."""

    keys: list[KeyValue]
    index: int


class ConsulAgent:
    """One agent, as one thread uses it. `root`: the prefix of all keys, for the text that says which policy a token needs.
    `patience`: with which it waits for answers.

    Every method raises EngineRefusal for what Consul forbids, and EngineError for everything else that goes wrong.
    """

    def __init__(self, server: tuple[str, int], url: EngineUrl, root: str, patience: Patience) -> None:
        self.patience = patience
        self.name = name_of(server)
        self.has_failed = False
        self.server = server
        self._url = url
        self._root = root
        self._http: HttpConnection | None = None

    def connection(self) -> HttpConnection:
        """Another connection to this agent, such as a blocking query needs."""
        headers = {"x-consul-token": self._url.password} if self._url.password else {}
        return HttpConnection(self.server, tls_context(self._url), TIMEOUT, LONGEST_ANSWER, headers, self.patience)

    def close(self) -> None:
        """Closes the connection. A later request opens another one."""
        if self._http is not None:
            self._http.close()

    def failed(self, text: str) -> EngineError:
        """An error with this text; the attempt with this agent counts as failed."""
        self.has_failed = True
        return EngineError(text)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns an EngineRefusal into an EngineError: the attempt with this agent cannot go on after any of them."""
        try:
            yield
        except EngineError:
            self.has_failed = True
            raise
        except EngineRefusal as exc:
            raise self.failed(str(exc)) from exc

    # --- keys ---

    def get(self, key: str) -> KeyValue | None:
        """One key; None if it is not there."""
        keys = self.keys(self._call("GET", key, "", (404,)))
        return keys[0] if keys else None

    def listing(self, prefix: str) -> Listing:
        """All keys under a prefix."""
        answer = self._call("GET", prefix, "recurse", (404,))
        return Listing(self.keys(answer), self.index(answer, 0))

    def listed(self, keys: Iterable[str]) -> list[str]:
        """Those of these keys that are there."""
        return [key for key in keys if self._call("GET", key, "", (404,)).status == 200]

    def listed_at_once(self, keys: list[str]) -> list[str]:
        """Those of these keys that are there, as of one moment: the names of all keys that begin as they all do are read."""
        answer = self._call("GET", commonprefix(keys), "keys", (404,)) if keys else None
        if answer is None or answer.status == 404:
            return []
        try:
            names = set(json.loads(answer.body))
        except (ValueError, TypeError) as exc:
            raise self.failed(self._strange(answer)) from exc
        return [key for key in keys if key in names]

    def put(self, key: str, value: bytes, how: str) -> bool:
        """Puts a value on the condition `how`, such as `cas=INDEX`. False if the condition does not hold.

        SessionEndedError when `how` names a session that Consul does not know.
        """
        answer = self._call("PUT", key, how, (500,), value)
        if answer.status == 500:
            if b"invalid session" in answer.body.lower():
                self.has_failed = True
                raise SessionEndedError(f"{self.name} has ended the session of this process; a new one begins")
            raise self.failed(self.sentence(answer))
        return answer.body.strip() == b"true"

    def delete(self, key: str, how: str = "") -> None:
        """Deletes a key, on the condition `how`. A key that is not there is ignored."""
        self._call("DELETE", key, how)

    def _call(self, method: str, key: str, query: str, known: tuple[int, ...] = (), body: bytes = b"") -> HttpAnswer:
        return self.request(method, key_path(key, query), body, known)

    def request(self, method: str, target: str, body: bytes = b"", known: tuple[int, ...] = ()) -> HttpAnswer:
        """An answer with status 200, or with one of `known`."""
        self._http = self._http or self.connection()
        try:
            answer = self._http.call(method, target, body)
        except EngineError:
            self.has_failed = True
            raise
        if answer.status == 403:
            raise EngineRefusal(self.sentence(answer))
        if answer.status != 200 and answer.status not in known:
            raise self.failed(self.sentence(answer))
        return answer

    # --- answers ---

    def keys(self, answer: HttpAnswer) -> list[KeyValue]:
        """The keys in an answer; none if it says that there are none."""
        if answer.status == 404:
            if answer.headers.get("x-consul-index") is None:
                raise self.failed(self._strange(answer))
            return []
        try:
            return decode_keys(answer.body)
        except ValueError as exc:
            raise self.failed(self._strange(answer)) from exc

    def index(self, answer: HttpAnswer, former: int) -> int:
        """The index to ask with for the next change; see `next_index`."""
        try:
            return next_index(answer.headers.get("x-consul-index", ""), former)
        except ValueError as exc:
            raise EngineError(self._strange(answer)) from exc

    def mapping(self, answer: HttpAnswer) -> dict[str, Any]:
        """The JSON object in an answer."""
        try:
            document = json.loads(answer.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self.failed(self._strange(answer))
        return document

    def _strange(self, answer: HttpAnswer) -> str:
        return f"the server at {self.name} does not answer as Consul does (HTTP status {answer.status})"

    def sentence(self, answer: HttpAnswer) -> str:
        """The text of an error for this answer, which says what to do where that is known."""
        text = " ".join(answer.body.decode(errors="replace").split())[:200]
        if answer.status == 403:
            write = '{policy = "write"}'
            needed = f'its policy needs key_prefix "{self._root}" {write} and session_prefix "" {write}'
            if not self._url.password:
                mend = "consul://TOKEN@HOST:PORT/PREFIX is needed"
                return f"{self.name} forbids that to a client without a token ({text}); {mend}, and {needed}"
            if "not found" in text.lower():
                return f"{self.name} does not know the token of the URL ({text}); its SecretID is needed, and {needed}"
            return f"{self.name} forbids that to the token of the URL ({text}); {needed}"
        if answer.status == 400 and "https" in text.lower():
            return f"{self.name} wants TLS; consul://HOST:PORT/PREFIX?tls=yes, or ca=FILE, is needed"
        if answer.status == 404:
            return self._strange(answer)
        return f"{self.name} answered: {text or 'nothing'} (HTTP status {answer.status})"


def key_path(key: str, query: str) -> str:
    """The path of a key in Consul's HTTP API, with a query."""
    return f"/v1/kv/{quote(key)}{'?' if query else ''}{query}"
