"""Internal: the names and attributes of spans, by the semantic conventions."""

from __future__ import annotations

from typing import Any, NamedTuple

from zmqservices.observability.tracing.library import SpanKind, Status, StatusCode
from zmqservices.probes import ExcInfo

#: `rpc.system.name` and `messaging.system` of the conventions.
SYSTEM = "zmqservices"

#: The longest text from outside that a span carries, in characters: an error, or a type of events.
LONGEST_TEXT = 200


class EntrypointKind(NamedTuple):
    """The values that all spans of one entrypoint share. An HTTP entrypoint has the kind SERVER, and `is_http` is true."""

    method: str
    kind: SpanKind
    is_http: bool
    group: str
    service: str
    instance: str


def kind_of(entrypoint: Any, container: Any) -> EntrypointKind:
    """The values that all spans of this entrypoint share."""
    listed = entrypoint.listed()
    what = "rpc" if listed is None else str(listed.get("kind", ""))
    kind = SpanKind.SERVER if what.startswith(("rpc", "http", "websocket")) else SpanKind.INTERNAL
    return EntrypointKind(
        f"{container.service_name}/{entrypoint.method_name}", kind, what == "http",
        "" if listed is None else str(listed.get("group", "")), container.service_name, container.instance_id,
    )  # fmt: skip


def of_worker(worker_ctx: Any, of: EntrypointKind, names_service: bool) -> tuple[str, dict[str, Any]]:
    """The name of a worker's span, and its attributes."""
    event, request = worker_ctx.event, request_of(worker_ctx) if of.is_http else None
    name = of.method
    attributes: dict[str, Any] = {"zmqservices.call_id": worker_ctx.call_id}
    if names_service:
        attributes["zmqservices.service"] = of.service
    if worker_ctx.queued_at and worker_ctx.started_at:
        attributes["zmqservices.queued_seconds"] = worker_ctx.started_at - worker_ctx.queued_at
    if event is not None:
        name = f"process {event.source}"
        attributes.update(of_event(event.source, event.type, "process"))
        attributes["zmqservices.delivery_attempt"] = event.attempt
        if event.id is not None:
            attributes["messaging.message.id"] = event.id
        if of.group:
            attributes["messaging.consumer.group.name"] = of.group
    elif request is not None:
        name = f"{request.method} {request.route}" if request.route else request.method
        attributes.update({"http.request.method": request.method, "url.scheme": request.scheme})
        if not worker_ctx.entrypoint.sensitive_arguments:
            attributes["url.path"] = request.path
        if request.route:
            attributes["http.route"] = request.route
    elif of.kind is SpanKind.SERVER:
        attributes["rpc.system.name"] = SYSTEM
        attributes["rpc.method"] = name
    return name, attributes


def request_of(worker_ctx: Any) -> Any:
    """The HTTP request of a worker; None if the entrypoint passes other arguments to the method."""
    found = worker_ctx.args[0] if worker_ctx.args else None
    return found if hasattr(found, "environ") and hasattr(found, "route") else None


def http_status(worker_ctx: object, exc_info: ExcInfo | None, is_expected: bool) -> int:
    """The HTTP status of the answer; for an error, the status with which `zmqservices.web` answers it."""
    found = getattr(request_of(worker_ctx), "status", 200) if exc_info is None else getattr(exc_info[1], "code", None)
    return found if isinstance(found, int) else 400 if is_expected else 500


def of_event(source: str, type: str, operation: str) -> dict[str, Any]:
    """The attributes of the span in which an event of this type is sent or handled."""
    return {
        "messaging.system": SYSTEM, "messaging.operation.name": operation, "messaging.operation.type": operation,
        "messaging.destination.name": f"{source}:{type}"[:LONGEST_TEXT],
    }  # fmt: skip


def failed(exc: BaseException | str) -> Status:
    """The status of a span that ended with this error."""
    return Status(StatusCode.ERROR, str(exc)[:LONGEST_TEXT])
