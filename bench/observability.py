"""What it costs to be observed: CPU time per call, both sides in one process, with nothing on, metrics, logs, or traces.

Every slice with something on lies between two with nothing on, a fraction of a second before and after, and what counts is their
ratio. So one run tells what it costs, also on a machine that does other work.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from statistics import median
from typing import Any, NamedTuple

from discovery.server.registry_server import RegistryServer
from zmqservices.containers import ServiceContainer
from zmqservices.observability.logs import AccessLog, JsonFormatter, SlowCalls
from zmqservices.observability.statistics import Statistics
from zmqservices.probes import Probe, attached
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ClusterRpcProxy


class Echo:
    name = "echo"

    @rpc
    def echo(self, value: Any) -> Any:
        return value


def _nothing() -> None:
    pass


class Subject(NamedTuple):
    """What is on during a slice: a probe that is attached, and what it leaves to be done at the end of the slice."""

    probe: Probe | None = None
    settle: Callable[[], object] = _nothing


def access_log(stack: ExitStack) -> Subject:
    """A line of JSON for each call."""
    logger = logging.getLogger("zmqservices.access")
    handler = logging.StreamHandler(stack.enter_context(tempfile.TemporaryFile("w")))
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    stack.callback(logger.removeHandler, handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    stack.callback(setattr, logger, "propagate", True)
    return Subject(AccessLog())


def traces(stack: ExitStack, share: float) -> Subject:
    """Spans of this share of all traces, thrown away in batches as an exporter would send them."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    from zmqservices.observability.tracing import Tracing

    class Thrown(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    os.environ.update(OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG=str(share))
    tracing = Tracing()
    stack.callback(tracing.close)
    tracing.add_span_processor(BatchSpanProcessor(Thrown()))
    # Flushed within the slice: otherwise the slices that follow would pay for its spans.
    return Subject(tracing, tracing.provider.force_flush)


#: What is on, by name.
SUBJECTS: dict[str, Callable[[ExitStack], Subject]] = {
    "nothing": lambda stack: Subject(),
    "a probe that hears nothing": lambda stack: Subject(Probe()),
    "metrics": lambda stack: Subject(Statistics()),
    "slow calls": lambda stack: Subject(SlowCalls(60.0)),
    "access log": access_log,
    "traces, 0 %": lambda stack: traces(stack, 0.0),
    "traces, 1 %": lambda stack: traces(stack, 0.01),
    "traces, 100 %": lambda stack: traces(stack, 1.0),
}


def run(in_flight: list[int], count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """One line for each slice with something on: its cost, and that of the slices beside it."""
    with ExitStack() as stack:
        registry = RegistryServer("tcp://127.0.0.1:0")
        registry.start()
        stack.callback(registry.stop)
        registry.wait_bound(5)
        settings = {"DIRECTORY": registry.url, "rpc_timeout": 60.0}
        container = ServiceContainer(Echo, settings)
        container.start()
        stack.callback(container.kill)
        # With other settings, so that it has a node of its own.
        cluster = stack.enter_context(ClusterRpcProxy({**settings, "HEARTBEAT": 3.0}))
        cluster.echo.echo(1)
        subjects = {name: make(stack) for name, make in SUBJECTS.items()}
        for _ in range(count):
            for window in in_flight:
                before = _cost(cluster, window, seconds, Subject())
                for name, subject in subjects.items():
                    cost = _cost(cluster, window, seconds, subject)
                    after = _cost(cluster, window, seconds, Subject())
                    yield {
                        "case": f"{window} in flight", "subject": name, "cpu_us": cost, "beside_us": (before + after) / 2,
                    }  # fmt: skip
                    before = after


def _cost(cluster: Any, window: int, seconds: float, subject: Subject) -> float:
    """Microseconds of CPU time per call."""
    call, waiting, calls = cluster.echo.echo, deque[Any](), 0
    with nullcontext() if subject.probe is None else attached(subject.probe):
        end, before = time.monotonic() + seconds, time.process_time()
        while time.monotonic() < end:
            for _ in range(64):
                if len(waiting) >= window:
                    waiting.popleft().result()
                waiting.append(call.call_async(1))
                calls += 1
        while waiting:
            waiting.popleft().result()
        subject.settle()
        return (time.process_time() - before) / calls * 1e6


def text(lines: list[dict[str, Any]]) -> str:
    """A table: the median of each subject, and what it costs beside nothing, as the median of the slices' ratios."""
    rows = []
    for case in dict.fromkeys(line["case"] for line in lines):
        of_case: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            if line["case"] == case:
                of_case.setdefault(line["subject"], []).append(line)
        for name, found in of_case.items():
            cost, beside = (median(line[what] for line in found) for what in ("cpu_us", "beside_us"))
            ratio = median(line["cpu_us"] / line["beside_us"] for line in found)
            rows.append(f"{case:<16}{name:<28}{cost:>9.2f} us{beside:>9.2f} us{(ratio - 1) * 100:>+8.1f} %")
    head = f"{time.strftime('%d %B %Y'):<16}{'':<28}{'CPU/call':>12}{'beside':>12}{'':>10}"
    return "\n".join([head, *rows])
