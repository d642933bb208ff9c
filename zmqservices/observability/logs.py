"""Log lines with the ids of calls, as text or as JSON; a log of slow calls; a log of all calls.

`zmqservices run` uses them according to the settings LOG_FORMAT, LOG_TRACEBACKS, slow_call_threshold and ACCESS_LOG. Your LOGGING
setting may name the classes, for example `(): zmqservices.observability.logs.JsonFormatter`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from zmqservices import configuration, constants
from zmqservices.exceptions import ConfigurationError
from zmqservices.hosting.workers import current_job
from zmqservices.log_helpers import Formatter, escaped
from zmqservices.observability.statistics import OTHER, type_name
from zmqservices.probes import ExcInfo, OutgoingCall, Probe, attached
from zmqservices.worker_context import WorkerContext

__all__ = ["AccessLog", "JsonFormatter", "SlowCalls", "TextFormatter", "ids_of"]

_access = logging.getLogger("zmqservices.access")
_slow = logging.getLogger("zmqservices.slow")

#: The names of the ids that a log line may have.
IDS = ("call_id", "trace_id", "span_id", "service", "instance")

#: The most nested calls that the line of a slow call names.
MOST_NAMED = 5

#: The most characters that are shown of a caller's id.
LONGEST_ID = 200

#: The most methods that are told apart among the calls of one worker.
MOST_CALLED = 100

#: The format of a line of text, as `zmqservices run` logs it.
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def ids_of(worker_ctx: WorkerContext) -> dict[str, str]:
    """The ids of a call: `call_id`, `service`, `instance`, and `trace_id` if a W3C traceparent travels with it."""
    ids = {
        "call_id": worker_ctx.call_id,
        "service": worker_ctx.service_name,
        "instance": worker_ctx.container.instance_id,
    }
    parent = worker_ctx.data.get("traceparent")
    parts = parent.split("-") if isinstance(parent, str) else ()
    if len(parts) >= 4 and len(parts[1]) == 32:
        ids["trace_id"], ids["span_id"] = parts[1], parts[2]
    return ids


def _ids_of_record(record: logging.LogRecord) -> dict[str, str]:
    """The ids that the record has itself, or else those of the call that the current worker runs."""
    own = {name: value for name in IDS if isinstance(value := getattr(record, name, None), str)}
    if own:
        return own
    job = current_job()
    return ids_of(job) if isinstance(job, WorkerContext) else {}


class TextFormatter(Formatter):
    """One line of text; in a call, its id ends the line. Frames of this package are left out of tracebacks unless `full`."""

    def __init__(self, fmt: str = TEXT, full: bool = False) -> None:
        super().__init__(fmt, hides_own_frames=not full)

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        shown = [f"{name}={value}" for name, value in _ids_of_record(record).items() if name in ("call_id", "trace_id")]
        shown = [one for one in shown if one.partition("=")[2] not in text]
        return f"{text} [{' '.join(shown)}]" if shown else text


class JsonFormatter(Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, the ids, what was given as `extra`, and `exception`."""

    def __init__(self, full: bool = False, process: str = "") -> None:
        super().__init__(hides_own_frames=not full)
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if self._process:
            line["process"] = self._process
        line.update(_ids_of_record(record))
        line.update((name, value) for name, value in vars(record).items() if name not in _OF_EVERY_RECORD and name not in line)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = {
                "type": type_name(type(record.exc_info[1])),
                "message": str(record.exc_info[1]),
                "stacktrace": self.formatException(record.exc_info),
            }
        return json.dumps(line, default=repr, ensure_ascii=False)


_OF_EVERY_RECORD = frozenset((*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName"))


class AccessLog(Probe):
    """Logs a line for each call, event, request and tick, and for each call that is refused, to `zmqservices.access`."""

    def worker_result(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> None:
        now = time.monotonic()
        running = now - worker_ctx.started_at if worker_ctx.started_at else 0.0
        queued = worker_ctx.started_at - worker_ctx.queued_at if worker_ctx.queued_at and worker_ctx.started_at else 0.0
        method = f"{worker_ctx.service_name}.{worker_ctx.entrypoint.method_name}"
        outcome = "ok" if exc_info is None else type_name(exc_info[0])
        # Cut, because the caller chose this id.
        by = str(worker_ctx.immediate_parent_call_id or "")[:LONGEST_ID] or None
        _access.info(
            "%s %s ran %.1f ms, queued %.1f ms%s", method, outcome, running * 1000, queued * 1000,
            f", called by {by}" if by else "",
            extra={
                **ids_of(worker_ctx), "method": method, "outcome": outcome, "run_seconds": round(running, 6),
                "queued_seconds": round(queued, 6), "called_by": by,
            },
        )  # fmt: skip

    def call_refused(self, service: str, method: str, reason: str) -> None:
        name = escaped(f"{service}.{method}"[:300])
        _access.info("%s refused: %s", name, reason, extra={"service": service[:200], "method": name, "outcome": reason})


class SlowCalls(Probe):
    """Logs a warning to `zmqservices.slow` for a call of more than `threshold` seconds, and says where the time went."""

    def __init__(self, threshold: float = 1.0) -> None:
        self._threshold = threshold
        #: Seconds that each running worker waited for answers: by the worker's call id, then by the called method.
        self._waits: dict[str, dict[str, float]] = {}

    def worker_started(self, worker_ctx: WorkerContext) -> None:
        self._waits[worker_ctx.call_id] = {}

    def call_ended(self, call: OutgoingCall) -> None:
        stack = (call.headers or {}).get(constants.CALL_ID_STACK_CONTEXT_KEY)
        waits = self._waits.get(stack[-1]) if stack else None
        if waits is not None:
            name = f"{call.service}.{call.method}"
            if name not in waits and len(waits) >= MOST_CALLED:
                name = OTHER
            waits[name] = waits.get(name, 0.0) + time.monotonic() - call.began_at

    def worker_result(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> None:
        now = time.monotonic()
        began = worker_ctx.queued_at or worker_ctx.started_at
        waits = self._waits.get(worker_ctx.call_id, {})
        if began and now - began >= self._threshold:
            self._tell(worker_ctx, now - began, worker_ctx.started_at - began, now - worker_ctx.started_at, waits)

    def worker_ended(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> None:
        self._waits.pop(worker_ctx.call_id, None)

    def service_stopped(self, service: str, instance: str) -> None:
        # A killed worker has no end that a probe is told, so its waits are removed here.
        for call_id in [call_id for call_id in self._waits if call_id.startswith(f"{service}.")]:
            del self._waits[call_id]

    @staticmethod
    def _tell(
        worker_ctx: WorkerContext, whole: float, queued: float, running: float, waits: Mapping[str, float]
    ) -> None:
        waited = min(sum(waits.values()), running)
        longest = sorted(waits.items(), key=lambda one: -one[1])
        named = ", ".join(f"{escaped(name[:LONGEST_ID])} {seconds:.3f} s" for name, seconds in longest[:MOST_NAMED])
        more = f" and {len(waits) - MOST_NAMED} more" if len(waits) > MOST_NAMED else ""
        _slow.warning(
            "%s took %.3f s: %.3f s in the queue, %.3f s running, %.3f s of these waiting for replies%s",
            worker_ctx.call_id, whole, queued, running, waited, f" ({named}{more})" if named else "",
            extra={
                **ids_of(worker_ctx), "seconds": round(whole, 6), "queued_seconds": round(queued, 6),
                "run_seconds": round(running, 6), "waited_seconds": round(waited, 6),
            },
        )  # fmt: skip


def formatter_of(settings: Mapping[str, Any], process: str = "") -> logging.Formatter:
    """The formatter that LOG_FORMAT and LOG_TRACEBACKS ask for. `process`: the number of this process among several, or "".

    Raises ConfigurationError for a wrong value.
    """
    kind = _one_of(settings, constants.LOG_FORMAT_CONFIG_KEY, "text", "json")
    full = _one_of(settings, constants.LOG_TRACEBACKS_CONFIG_KEY, "short", "full") == "full"
    return JsonFormatter(full, process) if kind == "json" else TextFormatter(f"[{process}] {TEXT}" if process else TEXT, full)


def _one_of(settings: Mapping[str, Any], key: str, *choices: str) -> str:
    found = configuration.text(settings, key, choices[0])
    if found not in choices:
        raise ConfigurationError(f"{key} is {found!r}; {' or '.join(map(repr, choices))} is needed")
    return found


@contextmanager
def logging_calls(settings: Mapping[str, Any]) -> Iterator[None]:
    """Within the block, log calls as `slow_call_threshold` and ACCESS_LOG ask. Raises ConfigurationError for a wrong value."""
    threshold = configuration.seconds(settings, constants.SLOW_CALL_THRESHOLD_CONFIG_KEY, None, allow_none=True)
    wants_all = configuration.boolean(settings, constants.ACCESS_LOG_CONFIG_KEY, False)
    with ExitStack() as stack:
        if threshold is not None:
            stack.enter_context(attached(SlowCalls(threshold)))
        if wants_all:
            stack.enter_context(attached(AccessLog()))
        yield
