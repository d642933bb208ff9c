"""The contract of a service class, for people and tools that do not read Python.

    from zmqservices.schema import asyncapi, openapi

    openapi(Gateway)     # OpenAPI 3.1: the @http methods, or None where there are none
    asyncapi(Orders)     # AsyncAPI 3.0: @rpc methods, handled and dispatched events, or None

Both need only the class, and nothing is started. They return dicts for `json.dumps`. `serve_openapi(containers)` makes containers
that have not started serve their document at /openapi.json. Needs the extra `schema`.
"""

from zmqservices.schema.asyncapi import asyncapi
from zmqservices.schema.openapi import openapi
from zmqservices.schema.served import serve_openapi

__all__ = ["asyncapi", "openapi", "serve_openapi"]
