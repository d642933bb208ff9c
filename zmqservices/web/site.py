"""One address at which this process listens. All services that have it in their configuration share it.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any, ClassVar, Protocol
from wsgiref.types import StartResponse, WSGIApplication

import gevent
from gevent.event import AsyncResult
from gevent.socket import socket as Socket
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, Rule

from zmqservices.exceptions import ConfigurationError
from zmqservices.web.addresses import BindAddress, listen
from zmqservices.worker_context import Container

_log = logging.getLogger(__name__)

#: Finds the names of a rule's variables. They do not change what the rule matches: `<int:a>` and `<int:b>` are equal.
_VARIABLE = re.compile(r"<((?:[^:<>]+:)?)[^:<>]+>")

#: The most seconds that `kill` waits for closed connections.
KILL_GRACE = 1.0


class Tenant(Protocol):
    """The interface of a service's web server for its site."""

    wsgi_app: WSGIApplication
    is_draining: bool
    container: Container

    def rules(self) -> list[Rule]:
        """New rules of its routes. The endpoint of each is the provider that answers."""

    def get_wsgi_server(self, sock: Socket, wsgi_app: WSGIApplication) -> Any: ...


class Site:
    """The WSGI application at one address. Call `Site.join(tenant, ...)` to get it, and `leave(tenant)` once for each join."""

    _sites: ClassVar[dict[Any, Site]] = {}

    def __init__(self, key: object, bind_addr: BindAddress) -> None:
        self._key = key
        self._bind_addr = bind_addr
        self._is_open: AsyncResult = AsyncResult()
        self._server: Any = None
        self.tenants: list[Tenant] = []
        self.url_map = Map()
        self._owners: dict[Any, Any] = {}
        #: The address at which it listens, with the real port.
        self.address = bind_addr

    @classmethod
    def join(cls, tenant: Tenant, bind_addr: BindAddress, reuse_port: bool) -> Site:
        """The site at this address on this thread's hub. The first tenant opens it.

        Raises ConfigurationError if the address cannot be bound, or if two services have the same route.
        """
        key = (os.getpid(), gevent.get_hub(), bind_addr, reuse_port)
        site = cls._sites.get(key)
        if site is None:
            site = cls._sites[key] = cls(key, bind_addr)
            site._open(tenant, reuse_port)
        else:
            # Wait, because another tenant may be opening it at this moment.
            site._is_open.get()
        site._add(tenant)
        return site

    def _open(self, tenant: Tenant, reuse_port: bool) -> None:
        try:
            sock = listen(self._bind_addr, reuse_port)
            self.address = BindAddress(*sock.getsockname()[:2])
            self._server = tenant.get_wsgi_server(sock, self)
            self._server.start()
        except BaseException as exc:
            self._forget()
            self._is_open.set_exception(exc)
            raise
        self._is_open.set(self)
        _log.info("listening at http://%s", self.address)

    def _add(self, tenant: Tenant) -> None:
        if self.tenants and not _is_alike(tenant, self.tenants[0]):
            raise ConfigurationError(
                f"{_name(tenant)} and {_name(self.tenants[0])} share {self._bind_addr}, and their classes of web server make "
                "different servers for it; give one of them another WEB_SERVER_ADDRESS"
            )
        try:
            self._settle([*self.tenants, tenant])
        except BaseException:
            if not self.tenants:
                self._close()
            raise

    def _settle(self, tenants: list[Tenant]) -> None:
        """Use the routes of these tenants from now on."""
        rules = {tenant: tenant.rules() for tenant in tenants}
        self.url_map = _map_of(rules)
        self._owners = {rule.endpoint: tenant for tenant in tenants for rule in rules[tenant]}
        self.tenants = tenants

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        tenants = self.tenants
        tenant = tenants[0] if len(tenants) == 1 else self._tenant_for(environ)
        return tenant.wsgi_app(environ, start_response)

    def _tenant_for(self, environ: dict[str, Any]) -> Tenant:
        """The tenant of the route. The first tenant answers for unknown routes, because each of them knows all routes."""
        try:
            return self._owners[self.routes(environ).match()[0]]
        except HTTPException:
            return self.tenants[0]

    def routes(self, environ: dict[str, Any]) -> MapAdapter:
        """The routes of all tenants, bound to this request."""
        adapter = self.url_map.bind_to_environ(environ)
        # The provider of the route handles an upgrade; routes do not differ in that.
        adapter.websocket = False
        return adapter

    def begin_to_drain(self) -> None:
        """A tenant accepts no more requests. When no tenant does, no more connections are accepted."""
        if all(tenant.is_draining for tenant in self.tenants) and self._server is not None:
            # At once, and not only after the last response, so that load balancers notice it, and another process can have the
            # port.
            self._forget()
            self._server.close()

    def leave(self, tenant: Tenant) -> None:
        """Remove a tenant's routes. The last tenant closes the site."""
        if tenant not in self.tenants:
            return
        remaining = [one for one in self.tenants if one is not tenant]
        if remaining:
            self._settle(remaining)
        else:
            # The last tenant stays in the list for open connections: its `wsgi_app` refuses all requests.
            self._close()

    def _close(self) -> None:
        self._forget()
        server, self._server = self._server, None
        if server is not None:
            server.close()
            pool = getattr(server, "pool", None)
            if pool is not None:
                pool.kill(block=True, timeout=KILL_GRACE)
            _log.info("no longer listening at http://%s", self.address)

    def _forget(self) -> None:
        if self._sites.get(self._key) is self:
            del self._sites[self._key]


def _is_alike(one: Tenant, other: Tenant) -> bool:
    return type(one).get_wsgi_server is type(other).get_wsgi_server


def _name(tenant: Tenant) -> str:
    return str(tenant.container.service_name)


def _map_of(rules: dict[Tenant, list[Rule]]) -> Map:
    """All rules of all tenants. Raises ConfigurationError if two tenants have rules for the same requests."""
    owners: dict[Any, str] = {}
    url_map = Map()
    for tenant in rules:
        for rule in rules[tenant]:
            who = f"{_name(tenant)}.{getattr(rule.endpoint, 'method_name', type(rule.endpoint).__name__)}"
            for shape in _shapes(rule):
                if shape in owners:
                    raise ConfigurationError(
                        f"{who} and {owners[shape]} both answer {shape[0] or 'every method'} {rule.rule!r}; one of them has to go"
                    )
                owners[shape] = who
            url_map.add(rule)
    return url_map


def _shapes(rule: Rule) -> list[tuple[Any, ...]]:
    """What the rule matches, once for each method. HEAD is added to GET automatically, so another rule may also have it."""
    where = (_VARIABLE.sub(r"<\1>", rule.rule), rule.host, rule.subdomain, rule.websocket)
    methods = rule.methods or {""}
    return [(method, *where) for method in sorted(methods) if not (method == "HEAD" and "GET" in methods)]
