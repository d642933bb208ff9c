"""Internal.

AsyncAPI 3.0 documents of the calls and events of a service class. https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import inspect
from typing import Any

from zmqservices.events import EventDispatcher, EventHandler
from zmqservices.extensions import is_dependency
from zmqservices.hosting.declaration import get_service_name
from zmqservices.rpc import Rpc
from zmqservices.schema.entrypoints import DeclaredEntrypoint, entrypoints_of, version_of
from zmqservices.schema.types import JsonSchema, Types, described, signature_of

#: The media type of messages, unless a service has another serializer.
CONTENT_TYPE = "application/msgpack"

_CHANNELS = "#/channels/"


def asyncapi(service_cls: type) -> dict[str, Any] | None:
    """The document, or None for a class without @rpc methods, event handlers and dispatchers.

    A call is an operation with a reply. Its payload has the arguments by name (they may also be given by position). A handled
    event is an operation at the address `SOURCE/PATTERN`, and dispatched events have the address `SERVICE/{event_type}`. Types
    are taken from annotations, texts from docstrings. Raises ConfigurationError for a class that is no service.
    """
    writer = _Writer(service_cls)
    for declared in entrypoints_of(service_cls, Rpc):
        writer.add_call(declared)
    for declared in entrypoints_of(service_cls, EventHandler):
        writer.add_handler(declared)
    for name, _ in inspect.getmembers(service_cls, lambda member: isinstance(member, EventDispatcher) and is_dependency(member)):
        writer.add_dispatcher(name)
    return writer.document()


def _reference(channel: str, message: str | None = None) -> dict[str, str]:
    return {"$ref": f"{_CHANNELS}{channel}" + (f"/messages/{message}" if message else "")}


class _Writer:
    def __init__(self, service_cls: type) -> None:
        self._service_cls = service_cls
        self._service = get_service_name(service_cls)
        self._types = Types()
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}

    def document(self) -> dict[str, Any] | None:
        if not self._operations:
            return None
        self._types.resolve()
        about = described(self._service_cls)
        info = {"title": self._service, "version": version_of(self._service_cls)}
        if about:
            info["description"] = about.get("description", about["summary"])
        document = {
            "asyncapi": "3.0.0",
            "info": info,
            "defaultContentType": CONTENT_TYPE,
            "channels": self._channels,
            "operations": self._operations,
        }
        if self._types.named:
            document["components"] = {"schemas": self._types.named}
        return document

    def add_call(self, declared: DeclaredEntrypoint) -> None:
        channel = f"call.{declared.name}"
        signature = signature_of(declared.method)
        messages = {
            "request": {"payload": self._arguments(signature)},
            "reply": {"payload": self._types.of(signature.return_annotation, given=False)},
        }
        self._channels[channel] = {"address": f"{self._service}.{declared.name}", "messages": messages}
        operation: dict[str, Any] = {
            "action": "receive",
            "channel": _reference(channel),
            **described(declared.method),
            "messages": [_reference(channel, "request")],
            "reply": {"channel": _reference(channel), "messages": [_reference(channel, "reply")]},
        }
        if declared.entrypoint.idempotent:
            operation["x-idempotent"] = True
        if declared.expected:
            operation["x-errors"] = [exc.__name__ for exc in declared.expected]
        self._operations[channel] = operation

    def add_handler(self, declared: DeclaredEntrypoint) -> None:
        handler: EventHandler = declared.entrypoint
        number = sum(name.startswith(f"handle.{declared.name}") for name in self._operations)
        channel = f"handle.{declared.name}" + (f".{number + 1}" if number else "")
        payload: JsonSchema = {}
        parameters = [*signature_of(declared.method).parameters.values()][1:]
        if parameters:
            payload = self._types.of(parameters[0].annotation)
        self._channels[channel] = {
            "address": f"{handler.source_service}/{handler.event_type}",
            "messages": {"event": {"payload": payload}},
        }
        self._operations[channel] = {
            "action": "receive",
            "channel": _reference(channel),
            **described(declared.method),
            "messages": [_reference(channel, "event")],
            "x-handler-type": handler.handler_type,
            "x-reliable-delivery": handler.reliable_delivery,
        }

    def add_dispatcher(self, name: str) -> None:
        channel = "events"
        parameter = {"description": f"The type of an event that `{name}` dispatches, such as order.paid"}
        self._channels[channel] = {
            "address": f"{self._service}/{{event_type}}",
            "parameters": {"event_type": parameter},
            "messages": {"event": {"payload": {}}},
        }
        self._operations[f"dispatch.{name}"] = {
            "action": "send",
            "channel": _reference(channel),
            "messages": [_reference(channel, "event")],
        }

    def _arguments(self, signature: inspect.Signature) -> JsonSchema:
        parameters = [*signature.parameters.values()][1:]
        named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        schema: JsonSchema = {"type": "object", "properties": {}}
        for each in named:
            has_default = isinstance(each.default, (str, int, float, bool, type(None)))
            more = {"default": each.default} if has_default else {}
            schema["properties"][each.name] = self._types.of(each.annotation, **more)
        required = [each.name for each in named if each.default is each.empty]
        if required:
            schema["required"] = required
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            schema["additionalProperties"] = False
        return schema
