"""This process's place in the cluster: one reactor, one directory, one caller and, once something is served, one door.

Containers of one process that have the same settings share a node; the last to leave closes it.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar
from urllib.parse import urlsplit

import gevent
from gevent.event import Event

import discovery
from zmqservices.cluster.caller import Caller
from zmqservices.cluster.desk import Desk
from zmqservices.cluster.duties import duties_of, holder, with_duties
from zmqservices.cluster.groups import Groups
from zmqservices.cluster.incoming import IncomingCall
from zmqservices.cluster.settings import Settings
from zmqservices.cluster.subscriber import Subscriber
from zmqservices.exceptions import ConfigurationError
from zmqservices.transport import Mast, Sockets, addresses
from zmqservices.transport.hub import HubReactor

_log = logging.getLogger(__name__)

#: The endpoint of a record at which its methods are called.
RPC = "rpc"

#: Seconds that a leaving node gives its directory to take note.
WITHDRAW_TIMEOUT = 1.0


def new_id() -> str:
    """A fresh id: 12 hex digits, different in every process and at every start."""
    return os.urandom(6).hex()


def open_directory(settings: Settings) -> Any:
    """A started directory client for these settings. Raises ConfigurationError for a URL that means nothing."""
    try:
        directory = discovery.open_directory(
            settings.directory,
            namespace=settings.namespace,
            cache_dir=settings.directory_cache,
            ttl=settings.directory_ttl,
        )
        directory.start()
    except discovery.DirectoryError as exc:
        raise ConfigurationError(str(exc)) from exc
    return directory


class Node:
    """Use `Node.join(settings)`, and `leave()` once for each join."""

    _nodes: ClassVar[dict[Any, Node]] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.id = new_id()
        self._incarnation = time.time_ns() // 1000
        self._members = 0
        #: What is announced of each service, and which of them are listed for methods to call, and for what `amend` said.
        self._records: dict[str, discovery.Record] = {}
        self._served: set[str] = set()
        self._amended: set[str] = set()
        self._desk: Desk | None = None
        self._publisher: Any = None
        self._subscriber: Subscriber | None = None
        self.reactor = HubReactor()
        self._sockets = Sockets(settings.sockets)
        try:
            self.directory = open_directory(settings)
        except Exception:
            self.reactor.close()
            self._sockets.close()
            raise
        self.caller = Caller(self.reactor, self._sockets, self.directory, settings, self.id)
        #: What the directory is to remember of groups that handle events.
        self.groups = Groups(self.directory, self.reactor, settings.events.expires_after)

    @classmethod
    def join(cls, settings: Settings) -> Node:
        """The node of this thread's hub with these settings, made where there is none."""
        key = (os.getpid(), gevent.get_hub(), settings)
        node = cls._nodes.get(key)
        if node is None:
            node = cls._nodes[key] = cls(settings)
        node._members += 1
        return node

    def leave(self, at_once: bool = False) -> None:
        """One member less; the last one closes the node and waits until its last words have left.

        With `at_once` it does not wait for answers to its events.
        """
        self._members -= 1
        if self._members:
            return
        for key, node in list(self._nodes.items()):
            if node is self:
                del self._nodes[key]
        if self._publisher is not None:
            try:
                self._publisher.stop(at_once)
            except Exception:
                _log.exception("a journal could not be closed in good order")
        if self._desk is not None:
            self._desk.leaving.wait_until_read()
        if self._subscriber is not None:
            self._subscriber.close()
        self.groups.close()
        self.caller.close()
        if self._desk is not None:
            self._desk.close()
        self.reactor.close()
        # Both wait in native threads, so that other greenlets run on meanwhile.
        pool = gevent.get_hub().threadpool
        ends = [pool.spawn(self.directory.stop, WITHDRAW_TIMEOUT), pool.spawn(self._sockets.close)]
        for end in ends:
            end.get()

    # --- events ------------------------------------------------------------------------------------------------------

    @property
    def publisher(self) -> Any:
        """The publishing half of events (`zmqservices.cluster.publisher`), made when it is first asked for."""
        if self._publisher is None:
            from zmqservices.cluster.publisher import Publisher  # SQLite comes with it: for those who publish only

            self._publisher = Publisher(self)
        return self._publisher

    @property
    def subscriber(self) -> Subscriber:
        """The handling half of events, made when it is first asked for."""
        if self._subscriber is None:
            self._subscriber = Subscriber(self.caller, self._sockets, self.id)
        return self._subscriber

    def raise_mast(self, listener: Any) -> tuple[Mast, str]:
        """A mast for broadcasts, and the address by which others reach it."""
        bound = self.settings.events.bind_address
        if bound is None:
            host, _ = addresses.parse(self._bind_address())
            bound = addresses.join(host, 0)
        mast = Mast(self.reactor, self._sockets, addresses.bindable(bound), listener)
        return mast, self._advertised(mast.endpoint, keep_port=True)

    # --- serving -----------------------------------------------------------------------------------------------------

    def serve(
        self,
        service: str,
        methods: dict[str, dict[str, Any]],
        take: Callable[[IncomingCall], None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
    ) -> None:
        """Open the door where it is shut, and announce `service` as UP. `methods` are described as in a record."""
        desk = self.open_door()
        if service in self._served:
            raise ConfigurationError(
                f"{service!r} is served by this process already; a second instance needs a process of its own "
                "(`zmqservices run --processes N`) or another BIND_ADDRESS or NAMESPACE"
            )
        desk.serve(service, take, flush, cancel, _idempotent(methods))
        self._served.add(service)
        endpoints = {**self._endpoints_of(service), RPC: self._advertised(desk.endpoint)}
        record = self._announce(service, state="UP", methods=methods, endpoints=endpoints)
        _log.info("serving %s as instance %s at %s", service, record.instance, record.endpoints["rpc"])

    def open_door(self) -> Desk:
        """The door, opened where it is shut."""
        if self._desk is None:
            self._desk = Desk(
                self.reactor,
                self._sockets,
                self._bind_address(),
                self.id,
                self.settings.namespace,
                self.settings.max_message_size,
            )
        return self._desk

    def amend(self, service: str, **changes: Any) -> None:
        """Say more of `service` in its record; one that is not announced yet is, without calls being taken for it.

        It stays listed until `retract`.
        """
        self._amended.add(service)
        self._announce(service, **changes)

    def has_amended(self, service: str) -> bool:
        """Whether `amend` said something that holds."""
        return service in self._amended

    def retract(self, service: str) -> None:
        """What `amend` said of its subscriptions holds no more."""
        self._amended.discard(service)
        self.groups.release(service)
        self._part(service, subscriptions=[])

    def settle(self, service: str, timeout: float) -> bool:
        """Wait until the directory shows what was announced of `service`; False after `timeout` seconds.

        A registry tells of changes in their order: what others had announced before is seen from then on as well.
        """
        record = self._records.get(service)
        if record is None or self.settings.directory.startswith("static:"):
            return True  # A fixed list shows what it shows.
        end = time.monotonic() + timeout
        # All that it holds first: what we announce ourselves may come back before that.
        if not self.directory.wait_ready(timeout):
            return False
        changed = Event()
        self.caller.on_change.append(changed.set)
        try:
            while not any(
                seen.record.instance == record.instance and seen.record.version >= record.version
                for seen in self.directory.service(service)
            ):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                changed.clear()
                changed.wait(left)
        finally:
            self.caller.on_change.remove(changed.set)
        self.caller.update()
        return True

    def record(self, service: str) -> Any:
        """What is announced of it; None when nothing is."""
        return self._records.get(service)

    def _announce(self, service: str, **changes: Any) -> discovery.Record:
        """Tell the directory what has changed of this instance of `service`, or that there is one."""
        record = self._records.get(service)
        record = self._new_record(service, changes) if record is None else record.replace(**changes)
        self._records[service] = record
        self.directory.announce(record)
        return record

    def _new_record(self, service: str, fields: dict[str, Any]) -> discovery.Record:
        return discovery.Record(
            service=service,
            instance=new_id(),
            node=self.id,
            incarnation=self._incarnation,
            version=1,
            namespace=self.settings.namespace,
            ttl=self.settings.directory_ttl,
            host=platform.node(),
            pid=os.getpid(),
            **fields,
        )

    def drain(self, service: str, timeout: float | None) -> bool:
        """Tell everybody that `service` goes, and return when its calls have ended; see `Leaving.drain`."""
        record = self._records.get(service)
        if record is None or self._desk is None:
            return True
        if record.state == "UP":
            self._announce(service, state="DRAINING")
        return self._desk.leaving.drain(service, timeout)

    def drop(self, service: str) -> None:
        """Stop serving at once: calls under way are answered with an error."""
        if self._desk is not None:
            self._desk.leaving.drop(service)

    def withdraw(self, service: str) -> None:
        """The service's methods are gone from here."""
        self._served.discard(service)
        if self._desk is not None:
            self._desk.leave(service)
        endpoints = {name: address for name, address in self._endpoints_of(service).items() if name != RPC}
        # Where it stays listed for something else, nobody shall call it.
        self._part(service, endpoints=endpoints, methods={}, state="DRAINING")

    def _endpoints_of(self, service: str) -> dict[str, str]:
        record = self._records.get(service)
        return {} if record is None else dict(record.endpoints)

    def _part(self, service: str, **changes: Any) -> None:
        """There is a reason less to list `service`: say what has changed, or withdraw it with the last reason."""
        record = self._records.get(service)
        if record is None:
            return
        if service in self._served or service in self._amended or duties_of(record.replace(**changes)):
            self._announce(service, **changes)
        else:
            del self._records[service]
            self.directory.withdraw(record.instance)

    # --- duties: what one instance of a service does for all ---------------------------------------------------------

    def claim(self, service: str, duty: str) -> None:
        """This instance of `service` stands ready for `duty`; it is listed for that even if it has no methods to call."""
        if self.settings.directory.startswith("static:"):
            raise ConfigurationError(
                f"DIRECTORY is {self.settings.directory!r}, where instances cannot tell each other that they are there; "
                f"{service}.{duty}, which one of them does for all, needs local: or tcp://"
            )
        record = self._records.get(service)
        duties = [] if record is None else duties_of(record)
        if duty in duties:
            raise ConfigurationError(f"{service}.{duty} is claimed by this process already; another needs one of its own")
        self._announce(service, tags=with_duties({} if record is None else record.tags, [*duties, duty]))

    def give_up(self, service: str, duty: str) -> None:
        """It stands ready no longer; another instance has the duty as soon as it hears of it."""
        record = self._records.get(service)
        if record is None:
            return
        duties = [one for one in duties_of(record) if one != duty]
        self._part(service, tags=with_duties(record.tags, duties))

    def is_known(self, service: str, duty: str) -> bool:
        """Whether a registry has answered, and somebody has the duty."""
        return self.directory.wait_ready(0) and holder(self.directory.service(service), duty) is not None

    def is_on_duty(self, service: str, duty: str) -> bool:
        """Whether it is this instance that has `duty`, as far as is known here."""
        record = self._records.get(service)
        if record is None or not self.directory.wait_ready(0):
            return False
        return holder(self.directory.service(service), duty) == record.instance

    # --- addresses ---------------------------------------------------------------------------------------------------

    def _bind_address(self) -> str:
        if self.settings.bind_address:
            return addresses.bindable(self.settings.bind_address)
        # Without a word from the operator: as far as the directory reaches, and no farther.
        host = self._towards_registry()
        return addresses.join(host or "127.0.0.1", 0)

    def _advertised(self, bound: str, keep_port: bool = False) -> str:
        host, port = addresses.parse(bound)
        if self.settings.advertise_address:
            host, advertised_port = addresses.parse(self.settings.advertise_address, "ADVERTISE_ADDRESS")
            return addresses.join(addresses.resolve(host), port if keep_port else advertised_port or port)
        if host in addresses.ANY_HOST:
            host = self._towards_registry() or "127.0.0.1"
        return addresses.join(host, port)

    def _towards_registry(self) -> str | None:
        """This host's address on the route to its first registry; None where the directory names none."""
        for url in self.settings.directory.split(","):
            parts = urlsplit(url.strip())
            if parts.scheme == "tcp" and parts.hostname:
                found = addresses.source_address(parts.hostname, parts.port or 0)
                if found:
                    return found
        return None


def _idempotent(methods: dict[str, dict[str, Any]]) -> Iterable[str]:
    return [name for name, entry in methods.items() if entry.get("idempotent")]
