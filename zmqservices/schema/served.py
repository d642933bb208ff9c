"""Internal. Serves the OpenAPI document of services at /openapi.json, at the address of their @http methods."""

from __future__ import annotations

from collections.abc import Iterable

from zmqservices.containers import ServiceContainer
from zmqservices.schema.openapi import openapi
from zmqservices.web.addresses import BindAddress
from zmqservices.web.pages import JsonPage
from zmqservices.web.server import WebServer

PATH = "/openapi.json"


def serve_openapi(containers: Iterable[ServiceContainer]) -> None:
    """Serve the documents of these containers, which have not started yet, at /openapi.json.

    Services that share an address share a document. A service without @http methods has none. Anyone who can reach the address
    may read it. A service that has its own route /openapi.json fails to start with ConfigurationError.
    """
    by_address: dict[BindAddress, list[tuple[WebServer, type]]] = {}
    for container in containers:
        for extension in container.subextensions:
            if isinstance(extension, WebServer):
                by_address.setdefault(extension.bind_addr, []).append((extension, container.service_cls))
    for found in by_address.values():
        document = openapi(*(cls for _, cls in found))
        if document is not None:
            server = next(server for server, cls in found if openapi(cls) is not None)
            server.pages.append(JsonPage(PATH, document))
