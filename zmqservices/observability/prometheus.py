"""The page of metrics that Prometheus reads. Needs prometheus-client; the extra is `prometheus`.

`zmqservices run` serves the page at METRICS_ADDRESS. In your own program:

    server = MetricsServer("127.0.0.1:9464")
    server.start()
    ...
    server.stop()

Names, units and labels are those of OpenTelemetry's semantic conventions, as Prometheus writes them (`rpc.server.call.duration`
in seconds is `rpc_server_call_duration_seconds`), where there are conventions. The others begin with `zmqservices_`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import gevent
from gevent import pywsgi
from gevent.pool import Pool
from gevent.socket import socket as Socket

from zmqservices import probes
from zmqservices.observability.binding import bind
from zmqservices.observability.histogram import EXPORTED, Histogram
from zmqservices.observability.statistics import MOST_SERIES, OTHER, Outcomes, Statistics, Worked
from zmqservices.utils.turns import Turn

try:
    import prometheus_client
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError("prometheus-client is not installed; `pip install zmqservices[prometheus]` brings it") from error

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MetricsServer", "ServiceCollector"]

_log = logging.getLogger(__name__)

#: `rpc.system.name` and `messaging.system` of the conventions.
SYSTEM = "zmqservices"

#: The most connections at once, and the seconds after which an idle connection is closed.
MOST_CONNECTIONS, IDLE_TIMEOUT = 16, 10.0
#: The seconds for one request and its answer. Without it, a client that sends a byte now and then would keep its connection, and
#: a few of them would keep everybody else out.
REQUEST_TIMEOUT = 30.0

#: The measures, which are taken when the page is read: for each, the name and the help of its metric, and the key of its LABELS.
MEASURES = {
    "workers_running": ("zmqservices_workers_running", "Workers that run a method.", "instance"),
    "workers_max": ("zmqservices_workers_max", "Workers that may run at once.", "instance"),
    "workers_oldest_age": ("zmqservices_workers_oldest_seconds", "How long the longest running call has run.", "instance"),
    "calls_queued": ("zmqservices_calls_queued", "Calls and events that wait for a worker.", "instance"),
    "calls_in_flight": ("zmqservices_client_calls_in_flight", "Outgoing calls that are sent and not answered.", ""),
    "calls_held": ("zmqservices_client_calls_held", "Outgoing calls that wait for an instance.", ""),
    "client_instances": ("zmqservices_client_instances", "Instances of services that are called from here.", "callee_state"),
    "client_retry_budget": (
        "zmqservices_client_retry_budget", "Calls of a service that may be made again, or a second time, now.", "callee"),
    "client_panic": (
        "zmqservices_client_panic", "1 while so many instances of a service fail that none is ejected.", "callee"),
    "links": ("zmqservices_links", "Links to nodes that are called from here, by state.", "state"),
    "clients": ("zmqservices_clients", "Nodes that are connected to this one.", ""),
    "send_queue_bytes": ("zmqservices_send_queue_bytes", "Bytes of answers and events that wait for clients to read.", ""),
    "directory_fresh": ("zmqservices_directory_fresh", "1 while a registry is connected and past its warm-up.", ""),
    "directory_stale_seconds": (
        "zmqservices_directory_stale_seconds", "Seconds since the directory's view was fresh last.", ""),
    "directory_records": ("zmqservices_directory_records", "Instances that the directory shows here, by state.", "state"),
    "journal_events": ("zmqservices_journal_events", "Events that a journal keeps.", "journal"),
    "journal_bytes": ("zmqservices_journal_bytes", "Bytes of a journal.", "journal"),
    "journal_max_bytes": ("zmqservices_journal_max_bytes", "Bytes that a journal may have.", "journal"),
    "journal_blocked": ("zmqservices_journal_blocked", "1 while a full journal refuses events.", "journal"),
    "events_waiting": ("zmqservices_events_waiting", "Events that a group has not handled.", "group"),
    "events_oldest_age": ("zmqservices_events_oldest_seconds", "Age of the oldest event that a group has not handled.", "group"),
    "events_in_flight": ("zmqservices_events_in_flight", "Events that are sent to a group and not answered.", "group"),
    "dead_letters": ("zmqservices_dead_letters", "Dead letters of a group.", "group"),
    "group_members": ("zmqservices_group_members", "Members of a group that are connected to this publisher.", "group"),
}  # fmt: skip

#: Of several measures with the same labels, the largest is exported for these names; for all other names they are added up.
LARGEST = frozenset(("client_panic", "directory_stale_seconds", "events_oldest_age", "journal_blocked", "workers_oldest_age"))

#: The labels of each kind of measure: their names in the measure, and in the metric.
LABELS = {
    "": {},
    "instance": {"service": "service_name", "instance": "service_instance_id"},
    "state": {"state": "state"},
    "callee": {"service": "service_name"},
    "callee_state": {"service": "service_name", "state": "state"},
    "journal": {"source": "messaging_destination_name", "journal": "journal"},
    "group": {"source": "messaging_destination_name", "journal": "journal", "group": "messaging_consumer_group_name"},
}


class ServiceCollector(Collector):
    """A collector for your own registry of prometheus-client: it exports the counts of `statistics` and all measures.

    Attach `statistics` to the process first, with `zmqservices.probes.attach`.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Returns nothing, so that registering the collector does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Called for each page: yields every metric."""
        yield from self._calls()
        yield from self._workers()
        yield from self._events()
        yield from self._http()
        yield from self._cluster()
        yield from _measured()

    def _calls(self) -> Iterator[Metric]:
        server = _histogram(
            "rpc_server_call_duration_seconds", "Duration of incoming calls: from the worker's start to the answer.",
            "rpc_system_name rpc_method service_name service_instance_id error_type",
        )  # fmt: skip
        for worked in self._worked("rpc"):
            method = f"{worked.service}/{worked.method}"
            _add_outcomes(server, worked, SYSTEM, method, worked.service, worked.instance)
        yield server
        client = _histogram(
            "rpc_client_call_duration_seconds", "Duration of outgoing calls, as their callers wait.",
            "rpc_system_name rpc_method error_type",
        )  # fmt: skip
        for (service, method), outcomes in self._called().items():
            _add_outcomes(client, outcomes, SYSTEM, f"{service}/{method}")
        yield client
        hedged = CounterMetricFamily(
            "zmqservices_client_calls_hedged", "Outgoing calls that were also sent to a second instance.", labels=("rpc_method",)
        )
        for (service, method), count in list(self._statistics.hedged.counts.items()):
            hedged.add_metric((f"{service}/{method}",), count)
        yield hedged
        refused = CounterMetricFamily(
            "zmqservices_calls_refused", "Incoming calls that were refused.", labels=("rpc_method", "reason")
        )
        for (service, method, reason), count in list(self._statistics.refused.counts.items()):
            refused.add_metric((f"{service}/{method}", reason), count)
        yield refused

    def _called(self) -> dict[tuple[str, str], Outcomes]:
        """Outgoing calls by service and method, added up over the services of this process that made them."""
        called: dict[tuple[str, str], Outcomes] = {}
        for (_, service, method), outcomes in list(self._statistics.calls.items()):
            called.setdefault((service, method), Outcomes()).add(outcomes)
        return called

    def _workers(self) -> Iterator[Metric]:
        queue = _histogram(
            "zmqservices_queue_duration_seconds", "How long calls, events and requests waited for a worker.",
            "service_name service_instance_id method kind",
        )  # fmt: skip
        other = _histogram(
            "zmqservices_worker_duration_seconds", "Duration of methods that timers and entrypoints of other kinds run.",
            "service_name service_instance_id method kind error_type",
        )  # fmt: skip
        for worked in self._statistics.all_worked():
            labels = (worked.service, worked.instance, worked.method, worked.kind)
            if worked.kind not in ("rpc", "event"):
                _add_outcomes(other, worked, *labels)
        for labels, waited in self._waited().items():
            _add(queue, labels, waited)
        yield queue
        yield other
        unstarted = CounterMetricFamily(
            "zmqservices_calls_unstarted", "Calls and events whose method never began.", labels=("service_name", "error_type")
        )
        for key, count in list(self._statistics.unstarted.counts.items()):
            unstarted.add_metric(key, count)
        yield unstarted

    def _waited(self) -> dict[tuple[str, str, str, str], Histogram]:
        """Waiting times by service, instance, method and kind. Event types and entrypoints of one method are added up."""
        waited: dict[tuple[str, str, str, str], Histogram] = {}
        for worked in self._statistics.all_worked():
            labels = (worked.service, worked.instance, worked.method, worked.kind)
            waited.setdefault(labels, Histogram()).add(worked.queued)
        return waited

    def _events(self) -> Iterator[Metric]:
        statistics = self._statistics
        operation = "messaging_system messaging_operation_name messaging_destination_name"
        process = _histogram(
            "messaging_process_duration_seconds", "Duration of the handling of events.",
            f"{operation} messaging_consumer_group_name service_name service_instance_id error_type",
        )  # fmt: skip
        for worked in self._worked("event"):
            if worked.type:
                destination = f"{worked.source}:{worked.type}"
                _add_outcomes(
                    process, worked, SYSTEM, "process", destination, worked.group, worked.service, worked.instance
                )
        yield process
        send = _histogram(
            "messaging_client_operation_duration_seconds", "Duration of dispatches, until a reliable event is on disk.",
            f"{operation} error_type",
        )  # fmt: skip
        sent = CounterMetricFamily(
            "messaging_client_sent_messages", "Events that were dispatched.", labels=f"{operation} error_type".split()
        )
        for (source, type), outcomes in list(statistics.dispatched.items()):
            labels = (SYSTEM, "send", f"{source}:{type}")
            _add_outcomes(send, outcomes, *labels)
            for error, histogram in outcomes.all():
                sent.add_metric((*labels, error), histogram.count)
        yield send
        yield sent
        groups = ("messaging_destination_name", "messaging_consumer_group_name")
        for name, help, counter in (
            ("zmqservices_events_delivered", "Reliable events that were sent to a group, each time.", statistics.delivered),
            ("zmqservices_events_redelivered", "Reliable events that were sent to a group once more.", statistics.redelivered),
            ("zmqservices_events_acked", "Reliable events that a group has handled.", statistics.acked),
            ("zmqservices_events_failed", "Deliveries of reliable events that failed.", statistics.failed),
            ("zmqservices_events_dead", "Events that became dead letters.", statistics.dead),
            ("zmqservices_events_lost", "Events that were lost for a group before it handled them.", statistics.lost),
        ):
            family = CounterMetricFamily(name, help, labels=groups)
            for key, count in list(counter.counts.items()):
                family.add_metric(key, count)
            yield family
        dropped = CounterMetricFamily(
            "zmqservices_events_dropped", "Copies of best-effort events that were dropped.", labels=groups[:1]
        )
        for source, count in list(statistics.dropped.counts.items()):
            dropped.add_metric((source,), count)
        yield dropped

    def _http(self) -> Iterator[Metric]:
        family = _histogram(
            "http_server_request_duration_seconds", "Duration of HTTP requests, until the body is sent.",
            "http_request_method http_route http_response_status_code url_scheme service_name error_type",
        )  # fmt: skip
        for (service, method, route, status), histogram in list(self._statistics.requests.items()):
            error = str(status) if status >= 500 else ""
            _add(family, (method, route, str(status), "http", service, error), histogram)
        yield family

    def _cluster(self) -> Iterator[Metric]:
        links = CounterMetricFamily("zmqservices_link_changes", "Changes of links, by what happened.", labels=("change",))
        for change, count in list(self._statistics.links.counts.items()):
            links.add_metric((change,), count)
        yield links
        instances = CounterMetricFamily(
            "zmqservices_instance_changes", "Instances that the directory listed and unlisted.", labels=("service_name", "state")
        )
        for key, count in list(self._statistics.instances.counts.items()):
            instances.add_metric(key, count)
        yield instances
        drains = _histogram("zmqservices_drain_duration_seconds", "Duration of drains.", "service_name outcome")
        for key, histogram in list(self._statistics.drains.items()):
            _add(drains, key, histogram)
        yield drains

    def _worked(self, kind: str) -> Iterator[Worked]:
        return (worked for worked in self._statistics.all_worked() if worked.kind == kind)


def _histogram(name: str, help: str, labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, help, labels=labels.split())


def _add_outcomes(family: HistogramMetricFamily, outcomes: Outcomes, *labels: str) -> None:
    for error, histogram in list(outcomes.all()):
        _add(family, (*labels, error), histogram)


def _add(family: HistogramMetricFamily, labels: Iterable[str], histogram: Histogram) -> None:
    exported = histogram.exported()
    buckets = [(_TEXTS[bound], float(count)) for bound, count in exported]
    buckets.append(("+Inf", float(histogram.count)))
    family.add_metric(list(labels), buckets, histogram.total)


#: The bounds as texts, in the way that Prometheus writes numbers.
_TEXTS = {bound: prometheus_client.utils.floatToGoString(bound) for bound in EXPORTED}


def _measured() -> Iterator[Metric]:
    """The measures as metrics, added up over the nodes and clients of this process."""
    found: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in MEASURES}
    for measure in probes.measures():
        values = found.get(measure.name)
        if values is not None:
            labels = tuple(str(measure.labels.get(label, "")) for label in LABELS[MEASURES[measure.name][2]])
            if labels not in values and len(values) >= MOST_SERIES:
                labels = (OTHER,) * len(labels)
            known = values.get(labels, 0.0)
            values[labels] = max(known, measure.value) if measure.name in LARGEST else known + measure.value
    for name, values in found.items():
        metric, help, kind = MEASURES[name]
        family = GaugeMetricFamily(metric, help, labels=list(LABELS[kind].values()))
        for labels, value in values.items():
            family.add_metric(labels, value)
        yield family


class _Reader(io.RawIOBase):
    """The bytes of a client. Others have their turn while it sends without a pause, and so do time limits."""

    def __init__(self, sock: Socket, turn: Turn) -> None:
        super().__init__()
        self._socket = sock
        self._turn = turn

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._turn.give_way()
        received: int = self._socket.recv_into(buffer)
        return received


class _Handler(pywsgi.WSGIHandler):
    """Closes a connection that has been idle for IDLE_TIMEOUT seconds, or whose request takes longer than REQUEST_TIMEOUT."""

    def __init__(self, sock: Socket, address: object, server: pywsgi.WSGIServer) -> None:
        self._turn = Turn()
        super().__init__(sock, address, server, io.BufferedReader(_Reader(sock, self._turn)))

    def handle(self) -> None:
        self.socket.settimeout(IDLE_TIMEOUT)
        super().handle()

    def handle_one_request(self) -> Any:
        # The next request may have been read together with the last one.
        self._turn.give_way()
        with gevent.Timeout(REQUEST_TIMEOUT, False):
            return super().handle_one_request()
        return None

    def handle_error(self, t: type[BaseException], v: BaseException, tb: TracebackType | None) -> None:
        if issubclass(t, (gevent.Timeout, TimeoutError, ConnectionError)):
            self.close_connection = True  # The client is too slow, or gone.
        else:
            super().handle_error(t, v, tb)

    def log_error(self, msg: str, *args: object) -> None:
        _log.debug(f"metrics: {msg}", *args)


class MetricsServer:
    """Serves `/metrics` at `address`: HOST:PORT, or the path of a UNIX socket. Raises ConfigurationError if it cannot listen.

    Counts from `start` to `stop`. Give `statistics` if they are attached already.
    """

    def __init__(self, address: str, statistics: Statistics | None = None) -> None:
        self._own = Statistics() if statistics is None else None
        self.statistics = statistics or self._own or Statistics()
        self.registry = prometheus_client.CollectorRegistry()
        self.registry.register(ServiceCollector(self.statistics))
        for collector in (
            prometheus_client.ProcessCollector, prometheus_client.PlatformCollector, prometheus_client.GCCollector
        ):  # fmt: skip
            collector(registry=self.registry)
        listener = bind(address)
        #: Where the server listens. Holds the real port even if the system chose it (port 0).
        self.address = listener.getsockname()
        self._server = pywsgi.WSGIServer(
            listener, self._answer, log=None, error_log=_log, handler_class=_Handler, spawn=Pool(MOST_CONNECTIONS)
        )

    def start(self) -> None:
        """Begin to count and to answer."""
        if self._own is not None:
            probes.attach(self._own)
        self._server.start()

    def stop(self) -> None:
        """Stop counting and answering."""
        if self._own is not None:
            probes.detach(self._own)
        self._server.stop(timeout=0)

    def page(self) -> bytes:
        """The page in the text format of Prometheus."""
        return bytes(prometheus_client.generate_latest(self.registry))

    def _answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            return _plain(start_response, "404 Not Found", b"the metrics are at /metrics\n")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain(start_response, "405 Method Not Allowed", b"GET is needed\n", [("Allow", "GET, HEAD")])
        page = self.page()
        start_response(
            "200 OK", [("Content-Type", prometheus_client.CONTENT_TYPE_PLAIN_0_0_4), ("Content-Length", str(len(page)))]
        )
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else page]


def _plain(start_response: Any, status: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers])
    return [body]
