"""What it costs to be observed: CPU time per call, both sides in one process, with nothing on, metrics, logs, or traces."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from statistics import median
from typing import Any

from discovery.server.registry_server import RegistryServer
from zmqservices.containers import ServiceContainer
from zmqservices.observability.logs import AccessLog, JsonFormatter, SlowCalls
from zmqservices.observability.prometheus import MetricsServer
from zmqservices.probes import Probe, attached
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ClusterRpcProxy


class Echo:
    name = "echo"

    @rpc
    def echo(self, value: Any) -> Any:
        return value


@contextmanager
def metrics() -> Iterator[None]:
    """The page of metrics, read now and then."""
    server = MetricsServer("127.0.0.1:0")
    server.start()
    try:
        yield
    finally:
        server.page()
        server.stop()


@contextmanager
def access_log() -> Iterator[None]:
    """A line of JSON for each call."""
    logger = logging.getLogger("zmqservices.access")
    with tempfile.TemporaryFile("w") as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            with attached(AccessLog()):
                yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = True


@contextmanager
def traced(share: float) -> Iterator[None]:
    """Spans of this share of all traces, thrown away in batches as an exporter would send them."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    from zmqservices.observability.tracing import Tracing

    class Thrown(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    os.environ.update(OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG=str(share))
    tracing = Tracing()
    tracing.add_span_processor(BatchSpanProcessor(Thrown()))
    try:
        with attached(tracing):
            yield
    finally:
        tracing.close()


#: What is on, by name.
SUBJECTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "nothing": nullcontext,
    "a probe that hears nothing": lambda: attached(Probe()),
    "metrics": metrics,
    "slow calls": lambda: attached(SlowCalls(60.0)),
    "access log": access_log,
    "traces, 1 %": lambda: traced(0.01),
    "traces, 100 %": lambda: traced(1.0),
}


def run(in_flight: list[int], count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """One line for each measurement; the subjects take turns."""
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
        for _ in range(count):
            for window in in_flight:
                for name, on in SUBJECTS.items():
                    with on():
                        yield {"case": f"{window} in flight", "subject": name, "cpu_us": _cost(cluster, window, seconds)}


def _cost(cluster: Any, window: int, seconds: float) -> float:
    """Microseconds of CPU time per call."""
    call, waiting, calls = cluster.echo.echo, deque[Any](), 0
    end, before = time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        for _ in range(64):
            if len(waiting) >= window:
                waiting.popleft().result()
            waiting.append(call.call_async(1))
            calls += 1
    while waiting:
        waiting.popleft().result()
    return (time.process_time() - before) / calls * 1e6


def text(lines: list[dict[str, Any]]) -> str:
    """A table: the median of each subject, and what it costs beside nothing, as the median of the rounds' ratios."""
    rows = []
    for case in dict.fromkeys(line["case"] for line in lines):
        of_case: dict[str, list[float]] = {}
        for line in lines:
            if line["case"] == case:
                of_case.setdefault(line["subject"], []).append(line["cpu_us"])
        base = of_case.get("nothing", [])
        for name, costs in of_case.items():
            ratio = median(cost / free for cost, free in zip(costs, base, strict=False)) if base else float("nan")
            rows.append(f"{case:<16}{name:<28}{median(costs):>9.2f} us{(ratio - 1) * 100:>+8.1f} %")
    return "\n".join([f"{'':<16}{'':<28}{'CPU/call':>12}{'':>10}", *rows])
