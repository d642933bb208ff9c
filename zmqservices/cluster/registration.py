"""One instance of one service in this process: its record in the directory, and the reasons for which it is listed.

A node has as many as it hosts instances, also of one service: each has an id of its own, and all have the node's endpoint.
An instance is listed while it has methods to call (`serve`), subscriptions (`amend`) or stands ready to lead (`claim`).
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

from gevent.event import Event

import discovery
from zmqservices.cluster.calls.incoming import IncomingCall, Served
from zmqservices.cluster.leadership import duties_of, holder, with_duties
from zmqservices.constants import LISTED_ENTRYPOINTS_TAG
from zmqservices.exceptions import ConfigurationError
from zmqservices.utils.waiting import wait_until

_log = logging.getLogger(__name__)

#: The endpoint of a record at which its methods are called.
RPC = "rpc"


def new_id() -> str:
    """A fresh id: 12 hex digits, different in every process and at every start."""
    return os.urandom(6).hex()


class Registration:
    """Made by `Node.register`, one for each container; `close` gives its number back."""

    def __init__(self, node: Any, service: str, number: int, incarnation: int) -> None:
        self.service = service
        #: Its number among the instances of the service in this process, from 1 on; the smallest that was free.
        self.number = number
        #: The id of the instance, in the directory and wherever it is named.
        self.id = new_id()
        #: What is announced of it; None when nothing is.
        self.record: discovery.Record | None = None
        self._node = node
        self._incarnation = incarnation
        self._served: Served | None = None
        self._is_amended = False
        self._is_described = False

    # --- methods to call ---------------------------------------------------------------------------------------------

    def serve(
        self,
        methods: dict[str, dict[str, Any]],
        take: Callable[[IncomingCall], None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
    ) -> None:
        """Open the call server if it is not open yet, and announce the instance as UP. `methods` are described as in a record."""
        call_server = self._node.open_call_server()
        self._served = call_server.serve(self.service, self.id, take, flush, cancel, _idempotent(methods))
        endpoints = {**self._endpoints(), RPC: self._node.advertised(call_server.endpoint)}
        record = self._announce(state="UP", methods=methods, endpoints=endpoints)
        _log.info("serving %s as instance %s at %s", self.service, self.id, record.endpoints[RPC])

    def drain(self, timeout: float | None) -> bool:
        """Tell everybody that the instance goes, and return when its calls have ended; see `Drain.drain`."""
        if self.record is None or self._served is None:
            return True
        if self.record.state == "UP":
            self._announce(state="DRAINING")
        return bool(self._node.call_server.draining.drain(self._served, timeout))

    def drop(self) -> None:
        """Stop serving at once: calls under way are answered with an error."""
        if self._served is not None:
            self._node.call_server.draining.drop(self._served)

    def withdraw(self) -> None:
        """Its methods are gone."""
        served, self._served = self._served, None
        if served is not None:
            self._node.call_server.leave(served)
        endpoints = {name: address for name, address in self._endpoints().items() if name != RPC}
        # Where it stays listed for something else, nobody shall call it.
        self._part(endpoints=endpoints, methods={}, state="DRAINING")

    # --- what else is said of it -------------------------------------------------------------------------------------

    def amend(self, **changes: Any) -> None:
        """Say more in its record; where nothing is announced yet, it is listed without calls being taken.

        It stays listed until `retract`.
        """
        self._is_amended = True
        self._announce(**changes)

    def describe(self, entrypoints: list[dict[str, Any]], endpoints: dict[str, str]) -> None:
        """Say what else runs its methods. Where nothing is announced yet, the instance is listed for that alone.

        It stays listed for that until `conceal`.
        """
        self._is_described = self._is_described or self.record is None
        tags = {**({} if self.record is None else self.record.tags), LISTED_ENTRYPOINTS_TAG: entrypoints}
        self._announce(tags=tags, endpoints={**self._endpoints(), **endpoints})

    def conceal(self) -> None:
        """It goes: it is not listed any more for what `describe` said."""
        self._is_described = False
        self._part()

    def retract(self) -> None:
        """What `amend` said of its subscriptions holds no more."""
        self._is_amended = False
        self._node.groups.release(self.id)
        self._part(subscriptions=[])

    def settle(self, timeout: float) -> bool:
        """Wait until the directory shows what was announced; False after `timeout` seconds.

        A registry tells of changes in their order: what others had announced before is seen from then on as well.
        """
        record, directory, caller = self.record, self._node.directory, self._node.caller
        if record is None or self._is_fixed:
            return True  # A fixed list shows what it shows.
        end = time.monotonic() + timeout
        # All that it holds first: what we announce ourselves may come back before that.
        if not directory.wait_ready(timeout):
            return False

        def is_shown() -> bool:
            return any(
                seen.record.instance == record.instance and seen.record.version >= record.version
                for seen in directory.service(self.service)
            )

        changed = Event()
        caller.on_change.append(changed.set)
        try:
            if not wait_until(is_shown, changed, end - time.monotonic()):
                return False
        finally:
            caller.on_change.remove(changed.set)
        caller.update()
        return True

    # --- leadership: what one instance of a service does for all -----------------------------------------------------

    def claim(self, duty: str) -> None:
        """The instance stands ready for `duty`; it is listed for that even if it has no methods to call."""
        if self._is_fixed:
            raise ConfigurationError(
                f"DIRECTORY is {self._node.settings.directory!r}, where instances cannot tell each other that they are "
                f"there; {self.service}.{duty}, which one of them does for all, needs local: or tcp://"
            )
        tags = {} if self.record is None else self.record.tags
        duties = [] if self.record is None else duties_of(self.record)
        self._announce(tags=with_duties(tags, {*duties, duty}))

    def give_up(self, duty: str) -> None:
        """It stands ready no longer; another instance has the duty as soon as it hears of it."""
        if self.record is not None:
            duties = [one for one in duties_of(self.record) if one != duty]
            self._part(tags=with_duties(self.record.tags, duties))

    def is_known(self, duty: str) -> bool:
        """Whether a registry has answered, and somebody has the duty."""
        directory = self._node.directory
        return directory.wait_ready(0) and holder(directory.service(self.service), duty) is not None

    def is_on_duty(self, duty: str) -> bool:
        """Whether it is this instance that has `duty`, as far as is known here."""
        directory = self._node.directory
        if self.record is None or not directory.wait_ready(0):
            return False
        return holder(directory.service(self.service), duty) == self.id

    # --- the record --------------------------------------------------------------------------------------------------

    @property
    def _is_fixed(self) -> bool:
        return not self._node.directory.capabilities.can_announce

    def _endpoints(self) -> dict[str, str]:
        return {} if self.record is None else dict(self.record.endpoints)

    def _announce(self, **changes: Any) -> discovery.Record:
        """Tell the directory what has changed of this instance, or that there is one."""
        record = self._new_record(changes) if self.record is None else self.record.replace(**changes)
        self.record = record
        self._node.directory.announce(record)
        return record

    def _new_record(self, fields: dict[str, Any]) -> discovery.Record:
        settings = self._node.settings
        return discovery.Record(
            service=self.service,
            instance=self.id,
            node=self._node.id,
            incarnation=self._incarnation,
            version=1,
            namespace=settings.namespace,
            ttl=settings.directory_ttl,
            host=platform.node(),
            pid=os.getpid(),
            **fields,
        )

    def _part(self, **changes: Any) -> None:
        """There is a reason less to list the instance: say what has changed, or withdraw it with the last reason."""
        if self.record is None:
            return
        if self._served is not None or self._is_amended or self._is_described or duties_of(self.record.replace(**changes)):
            self._announce(**changes)
        else:
            self.record = None
            self._incarnation += 1  # Should it be announced once more, that is news to whoever has seen it go.
            self._node.directory.withdraw(self.id)

    def close(self) -> None:
        """The instance is over."""
        self._node.unregister(self)


def _idempotent(methods: dict[str, dict[str, Any]]) -> Iterable[str]:
    return [name for name, entry in methods.items() if entry.get("idempotent")]
