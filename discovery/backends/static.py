"""A directory that needs no server: the addresses of all services are written in the URL or in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from discovery import interest
from discovery.backend import Callback, Capabilities, Options
from discovery.client.seeds import split_tcp
from discovery.exceptions import DirectoryConfigurationError, DirectoryError
from discovery.interest import Interest
from discovery.model import DEFAULT_NAMESPACE, DEFAULT_NOTE_TTL, LONGEST_TTL, Record, Seen, View, is_name, shown_url
from discovery.native import Log, NativeThread

_log = Log(__name__)

#: A public key, as `#KEY` after an address whose node encrypts its connections.
_KEY = re.compile("[0-9a-f]{64}")
_MEND = "static:maths=tcp://10.0.0.5:4000,tcp://10.0.0.6:4000;words=tcp://... or static:FILE.json is needed"


def open_static(url: str, options: Options) -> StaticDirectory:
    """`static:name=tcp://ip:port,...;name=...`, or {name: [url, ...]}: `static:FILE` in JSON or YAML, `static:{...}` in JSON.

    Names with `=`, `;` or `,` need JSON.
    `#KEY` after an address is the public key of the node there. The same address may stand there again with another key, which
    the node has or will have.
    """
    text = url.partition(":")[2].strip()
    if text.startswith("{"):
        services = _from_json(text, url)
    else:
        services = _from_text(text, url) if "=" in text else _from_file(text, url)
    open_ones = [endpoint for endpoints in services.values() for endpoint in endpoints if "#" not in endpoint]
    if options.keys is not None and open_ones:
        raise DirectoryConfigurationError(
            f"directory {url!r} names no key of the node at {open_ones[0]!r}, which SECURITY needs before it connects; add #KEY "
            "to the address, as `zmqservices keys show` prints it"
        )
    return StaticDirectory(url, services, options.namespace or DEFAULT_NAMESPACE, options.interest)


class StaticDirectory:
    """The `Directory` of a fixed list. It is always fresh, and announcing changes nothing."""

    capabilities = Capabilities(can_announce=False, stores_notes=False, takes_keys=True)

    def __init__(self, url: str, services: Mapping[str, list[str]], namespace: str, wanted: Interest = None) -> None:
        self._url = url
        self._interest = wanted
        records = [record for service in services for record in _records(service, services[service], namespace)]
        self._records = {record.instance: Seen(record) for record in records}
        self._is_started = False
        #: Called at the start, and after the interest has grown.
        self._callbacks: list[Callback] = []

    def start(self) -> None:
        """Calls the callbacks that have subscribed before."""
        self._is_started = True
        for callback in list(self._callbacks):
            self._call_back(callback)

    def stop(self, timeout: float = 1.0) -> None:
        """Does nothing: there are no connections."""
        self._is_started = False

    def __enter__(self) -> StaticDirectory:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def announce(self, record: Record) -> None:
        """Does nothing: the list is fixed."""

    def withdraw(self, instance: str) -> None:
        """Does nothing: the list is fixed."""

    def put(self, key: str, value: dict[str, Any], *, ttl: float = DEFAULT_NOTE_TTL, age: float = 0.0) -> None:
        """Does nothing: there is no registry to store a note."""

    def delete(self, key: str) -> None:
        """Does nothing: there are no notes."""

    def flush(self, timeout: float) -> bool:
        """True at once: nothing is ever sent."""
        return True

    def lock(self, name: str) -> NoReturn:
        """DirectoryError: there is no server to hold a lock."""
        mend = "etcd:, zookeeper: or consul: alone does"
        raise DirectoryError(f"directory {self._url!r} holds no locks, so {name!r} is not locked; {mend}")

    def add_interest(self, services: Iterable[str] = (), sources: Iterable[str] = ()) -> None:
        """Shows the records of these services as well."""
        keys = interest.keys(services, sources)
        if not interest.covers(self._interest, keys):
            self._interest = interest.grown(self._interest, keys)
            if self._is_started:
                for callback in list(self._callbacks):
                    self._call_back(callback)

    def view(self) -> View:
        """The records of the services of interest."""
        wanted = self._interest
        return View({key: seen for key, seen in self._records.items() if interest.wants(wanted, seen.record)}, fresh=True)

    def service(self, name: str) -> list[Seen]:
        """The instances of one service."""
        return self.view().service(name)

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Calls `callback(view)` from another thread: once, and again when the interest has grown. Nothing else changes."""
        self._callbacks.append(callback)
        if self._is_started:
            self._call_back(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def wait_ready(self, timeout: float, service: str | None = None) -> bool:
        """True at once."""
        if service is not None:
            self.add_interest([service])
        return True

    def describe(self) -> str:
        """The URL or the file."""
        return f"directory {self._url}, which never changes"

    def _call_back(self, callback: Callback) -> None:
        def call() -> None:
            try:
                callback(self.view())
            except Exception:
                _log.exception("a subscriber of directory %s failed", self._url)

        NativeThread(call, "discovery-static").start()


def _records(service: str, endpoints: list[str], namespace: str) -> list[Record]:
    """The instances of a service. An address with two keys is two instances, of which calls can reach one."""
    records = []
    seen: dict[str, str] = {}
    for named in endpoints:
        endpoint, _, key = named.partition("#")
        is_further = seen.setdefault(endpoint, key) != key
        records.append(_record(service, endpoint, key, f"-{key[:16]}" if is_further else "", namespace))
    return records


def _record(service: str, endpoint: str, key: str, suffix: str, namespace: str) -> Record:
    return Record(
        service=service,
        instance=f"static-{service}-{endpoint.removeprefix('tcp://')}{suffix}"[-255:],
        namespace=namespace,
        endpoints={"rpc": endpoint},
        public_key=key or None,
        ttl=LONGEST_TTL,
    )


def _from_text(text: str, url: str) -> dict[str, list[str]]:
    services: dict[str, list[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, endpoints = part.partition("=")
        services.setdefault(name.strip(), []).extend(endpoints.split(","))
    return _checked(services, url)


def _from_json(text: str, url: str) -> dict[str, list[str]]:
    try:
        return _checked(json.loads(text), url)
    except (ValueError, RecursionError) as exc:
        raise DirectoryConfigurationError(f"the directory URL is {url!r:.200}, which is no JSON: {exc}; {_MEND}") from exc


def _from_file(text: str, url: str) -> dict[str, list[str]]:
    path = Path(text)
    if not text or path.suffix not in (".json", ".yaml", ".yml"):
        raise DirectoryConfigurationError(f"the directory URL is {url!r}; {_MEND}")
    try:
        body = path.read_text(encoding="utf-8")
        return _checked(json.loads(body) if path.suffix == ".json" else _yaml(body, url), url)
    except (OSError, ValueError) as exc:
        raise DirectoryConfigurationError(
            f"the directory URL is {url!r}, and {path} cannot be read: {exc}"
        ) from exc


def _yaml(body: str, url: str) -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise DirectoryConfigurationError(
            f"{url!r} needs PyYAML; install it, or write the file as JSON"
        ) from exc
    try:
        return yaml.safe_load(body)
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from exc


def _checked(services: object, url: str) -> dict[str, list[str]]:
    if not isinstance(services, dict) or not services:
        raise DirectoryConfigurationError(f"the directory URL is {url!r}; {_MEND}")
    checked: dict[str, list[str]] = {}
    for name, endpoints in services.items():
        endpoints = [endpoints] if isinstance(endpoints, str) else endpoints
        if (
            not is_name(name)
            or not isinstance(endpoints, list)
            or not all(isinstance(e, str) for e in endpoints)
        ):
            raise DirectoryConfigurationError(f"{name!r} in directory {url!r} is {endpoints!r:.80}; {_MEND}")
        checked[name] = [_endpoint(endpoint.strip(), url) for endpoint in endpoints]
    return checked


def _endpoint(named: str, url: str) -> str:
    endpoint, hash_sign, key = named.partition("#")
    if hash_sign and not _KEY.fullmatch(key):
        raise DirectoryConfigurationError(
            f"directory {url!r} names the key {key[:80]!r}; 64 hex digits are needed, as `zmqservices keys show` prints them"
        )
    try:
        split_tcp(endpoint)
    except DirectoryConfigurationError as exc:
        raise DirectoryConfigurationError(f"directory {shown_url(url)!r} names {shown_url(endpoint)!r}; {_MEND}") from exc
    return named
