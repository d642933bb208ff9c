"""Internal. OpenAPI 3.1 documents of the @http methods of a service class. https://spec.openapis.org/oas/v3.1.0"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import chain
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from zmqservices.hosting.declaration import get_service_name
from zmqservices.schema.entrypoints import DeclaredEntrypoint, entrypoints_of, version_of
from zmqservices.schema.types import JsonSchema, Types, described, signature_of
from zmqservices.web.handlers import HttpRequestHandler

#: A parameter in a rule of werkzeug: `<name>`, `<int:name>`, `<any(a, b):name>`.
_PARAMETER = re.compile(r"<(?:(?P<converter>[a-zA-Z_][\w]*)(?:\((?P<arguments>[^)]*)\))?:)?(?P<name>[a-zA-Z_]\w*)>")

#: The values that werkzeug's converters accept.
_CONVERTERS: dict[str, JsonSchema] = {
    "int": {"type": "integer", "minimum": 0},
    "float": {"type": "number", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}

#: Methods that an OpenAPI path may have.
_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def openapi(service_cls: type, *others: type) -> dict[str, Any] | None:
    """The document, or None for a class without @http methods. With `others`, one document for services at one address.

    Paths, parameters and the response's type are taken from the rule and the annotations of each method, texts from docstrings.
    The content of a request's body is not known, because a method reads it itself. Raises ConfigurationError for a class that is
    no service.
    """
    types = Types()
    paths: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    classes = [cls for cls in (service_cls, *others) if any(entrypoints_of(cls, HttpRequestHandler))]
    for declared in chain.from_iterable(entrypoints_of(cls, HttpRequestHandler) for cls in classes):
        for path, method, operation in _operations(declared, types):
            # A method of the class may handle several HTTP methods and paths.
            if operation["operationId"] in names:
                operation["operationId"] += f"-{method}{path}"
            names.add(operation["operationId"])
            paths.setdefault(path, {})[method] = operation
    if not paths:
        return None
    types.resolve()
    # The docstring of one class does not describe several services.
    about = described(classes[0]) if len(classes) == 1 else {}
    info = {"title": ", ".join(map(get_service_name, classes)), "version": version_of(classes[0]), **about}
    document: dict[str, Any] = {"openapi": "3.1.0", "info": info, "paths": paths}
    if types.named:
        document["components"] = {"schemas": types.named}
    return document


def _operations(declared: DeclaredEntrypoint, types: Types) -> Iterator[tuple[str, str, dict[str, Any]]]:
    entrypoint: HttpRequestHandler = declared.entrypoint
    rule = entrypoint.get_url_rule()
    signature = signature_of(declared.method)
    wanted = [_parameter(match, signature, types) for match in _PARAMETER.finditer(rule.rule)]
    path = _PARAMETER.sub(lambda match: f"{{{match['name']}}}", rule.rule)
    methods = sorted(method.lower() for method in rule.methods or () if method.lower() in _METHODS)
    if "get" in methods and "HEAD" not in entrypoint.method.upper():
        methods.remove("head")  # werkzeug adds it.
    for method in methods:
        operation: dict[str, Any] = {"operationId": declared.name, **described(declared.method)}
        if wanted:
            operation["parameters"] = wanted
        operation["responses"] = _responses(declared, signature, types)
        yield path, method, operation


def _parameter(match: re.Match[str], signature: inspect.Signature, types: Types) -> dict[str, Any]:
    name, converter, arguments = match["name"], match["converter"], match["arguments"]
    found = signature.parameters.get(name)
    if converter == "any":
        schema: JsonSchema = {"enum": [one.strip().strip("'\"") for one in (arguments or "").split(",")]}
    elif found is not None and found.annotation is not inspect.Parameter.empty:
        schema = types.of(found.annotation)
    else:
        schema = _CONVERTERS.get(converter or "", {"type": "string"})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(declared: DeclaredEntrypoint, signature: inspect.Signature, types: Types) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "OK", **_content(signature.return_annotation, types)}}
    # HTTPExceptions of werkzeug are expected by every handler, and are their own responses.
    expected = [exc.__name__ for exc in declared.expected if exc is not HTTPException]
    if expected:
        # A handler class of the application may answer them differently.
        is_own = type(declared.entrypoint).response_from_exception is not HttpRequestHandler.response_from_exception
        status = "default" if is_own else str(HTTPStatus.BAD_REQUEST.value)
        responses[status] = {"description": f"The client's mistake: {', '.join(expected)}"}
    return responses


def _content(returned: object, types: Types) -> dict[str, Any]:
    """The body of a response, if the annotation tells its type."""
    if returned is inspect.Signature.empty or returned is None or returned is Any:
        return {}
    if returned is str:
        return {"content": {"text/plain": {"schema": {"type": "string"}}}}
    if returned is bytes:
        return {"content": {"application/octet-stream": {}}}
    origin = getattr(returned, "__origin__", returned)
    # A pair or triple contains a status, and an iterator is streamed.
    if origin is tuple or isinstance(origin, type) and (issubclass(origin, (Response, Iterator)) or origin is Iterator):
        return {}
    return {"content": {"application/json": {"schema": types.of(returned, given=False)}}}
