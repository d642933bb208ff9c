"""`zmqservices run`: runs services until a signal stops them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from zmqservices import configuration, constants
from zmqservices.cli import complete, streams
from zmqservices.cli.announce import Announcement
from zmqservices.cli.backdoor import setup_backdoor
from zmqservices.cli.metrics import served
from zmqservices.cli.options import AS_NAMEKO, INSECURE, Flags, be_nameko, takes_settings
from zmqservices.cli.parent_pipe import ParentPipe, imported_files
from zmqservices.cli.patching import import_from_here, monkey_patch
from zmqservices.cli.readiness import Readiness
from zmqservices.cli.services import import_service, import_services
from zmqservices.cli.short_errors import short_errors
from zmqservices.configuration import config
from zmqservices.exceptions import CommandError, ConfigurationError
from zmqservices.log_helpers import escape_what_others_sent
from zmqservices.removed import removed_names

if TYPE_CHECKING:
    from zmqservices.runners import ServiceRunner

__all__ = ["import_service", "run", "run_command", "setup_backdoor", "setup_logging"]

_log = logging.getLogger(__name__)

#: Seconds in which killed services must end; then the process ends anyway.
KILL_TIMEOUT = 3.0
#: Seconds between two checks whether the process is idle, so that kept memory is returned to the system.
IDLE_CHECK_INTERVAL = 5.0
KILLED = 130

__getattr__ = removed_names(__name__, {"main": "use zmqservices.cli.run.run_command, or `run` there to run services from Python"})

#: Set by the supervisor of --processes: which of them this one is.
PROCESS_NUMBER = "ZMQSERVICES_PROCESS"


@click.command("run")
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...", shell_complete=complete.modules)
@takes_settings
@AS_NAMEKO
@click.option("--processes", type=click.IntRange(1), metavar="N", help="Run N supervised processes of these services.")
@click.option("--reload", is_flag=True, help="Start again when a source file changes.")
@click.option(
    "--backdoor-port", "--backdoor", "backdoor_port", type=click.IntRange(0, 65535), metavar="N",
    help="Listen on 127.0.0.1:N for `zmqservices backdoor N`. With --processes, N, N+1, ...",
)  # fmt: skip
@click.option(
    "--backdoor-socket", metavar="PATH",
    help="Listen at a unix socket of your own for `zmqservices backdoor PATH`. With --processes, PATH, PATH.1, ...",
)  # fmt: skip
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), metavar="N",
    help="Serve metrics for Prometheus at 127.0.0.1:N/metrics; of all processes as one page.",
)  # fmt: skip
@INSECURE
@click.option("--traceback", "with_traceback", is_flag=True, help="Show the traceback if services cannot start.")
def run_command(
    services: tuple[str, ...],
    flags: Flags,
    as_nameko: bool,
    processes: int | None,
    reload: bool,
    backdoor_port: int | None,
    backdoor_socket: str | None,
    metrics_port: int | None,
    insecure: bool,
    with_traceback: bool,
) -> int:
    """Run the services of one or more modules, in one process or in several.

    \b
    Examples:
        zmqservices run helloworld
        zmqservices run shop.orders:Orders shop.stock -c config.yaml
        zmqservices run helloworld --processes 4 --directory tcp://10.0.0.5:4190

    Every class of the module that has an entrypoint is run. SIGTERM, SIGHUP or Ctrl-C lets running calls end
    first; a second Ctrl-C does not.
    """
    if backdoor_port is not None and backdoor_socket is not None:
        raise CommandError("--backdoor-port and --backdoor-socket are one door; give one of them")
    backdoor = backdoor_port if backdoor_socket is None else backdoor_socket
    flags = replace(flags, as_nameko=as_nameko, insecure=insecure)
    if metrics_port is not None:
        flags = replace(flags, define=(*flags.define, f"{constants.METRICS_ADDRESS_CONFIG_KEY}=127.0.0.1:{metrics_port}"))
    streams.outlive()
    if processes or reload:
        from zmqservices.cli.supervisor import supervise

        return supervise(services, flags, processes or 1, reload, backdoor, with_traceback)
    monkey_patch()
    from discovery.accepting import raise_soft_limit  # Patching comes before anything that uses sockets.

    raise_soft_limit()
    return _run_here(services, flags, backdoor, with_traceback)


def _run_here(names: tuple[str, ...], flags: Flags, backdoor: int | str | None, with_traceback: bool = False) -> int:
    import_from_here()
    if flags.as_nameko:
        be_nameko()
    parent_pipe = ParentPipe.from_environment()
    try:
        settings = flags.resolve()
        config.setup(settings)
        setup_logging(settings)
        flags.warn(settings)
        # If there are several processes, their supervisor reports whether all are ready.
        readiness = Readiness() if parent_pipe.fd is not None else Readiness.read(settings)
        classes = import_services(names)
        on_started = _tell(parent_pipe, names)
        from zmqservices.observability.logs import logging_calls

        with logging_calls(settings), served(settings):
            return run(classes, config, backdoor, on_started, parent_pipe, with_traceback, readiness)
    except BaseException as error:
        parent_pipe.tell(None, partial(imported_files, names, error))
        if not isinstance(error, Exception) or isinstance(error, click.ClickException):
            raise
        from zmqservices.cli.failures import CouldNotStart, WronglyConfigured
        from zmqservices.cli.main import exit_code

        raise (WronglyConfigured if exit_code(error) == 2 else CouldNotStart)(error, with_traceback) from error


def _tell(parent_pipe: ParentPipe, names: tuple[str, ...]) -> Callable[[list[str]], None]:
    def on_started(service_names: list[str]) -> None:
        parent_pipe.tell(service_names, partial(imported_files, names))

    return on_started


def log_to_stderr(settings: Mapping[str, Any] | None = None) -> None:
    """Log to stderr from INFO up, as LOG_FORMAT and LOG_TRACEBACKS say, unless logging is configured already."""
    from zmqservices.observability.logs import formatter_of  # It imports gevent; patching comes before that.

    handler = logging.StreamHandler()
    handler.setFormatter(formatter_of(settings or {}, _process_number()))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def process_label() -> str:
    """The prefix of log lines in one of several processes, such as `[2] `; empty for a single process."""
    number = _process_number()
    return f"[{number}] " if number else ""


def _process_number() -> str:
    number = os.environ.get(PROCESS_NUMBER, "")
    return number if number.isdigit() else ""


def setup_logging(settings: Mapping[str, Any]) -> None:
    """Log as the setting LOGGING says (a `dictConfig`), or to stderr from INFO up."""
    escape_what_others_sent()
    wanted = settings.get(constants.LOGGING_CONFIG_KEY)
    if wanted is None:
        log_to_stderr(settings)
        return
    if constants.LOG_FORMAT_CONFIG_KEY in settings:
        raise ConfigurationError(
            "LOG_FORMAT and LOGGING are both set; leave one out, or name a formatter in LOGGING: "
            "'()': zmqservices.observability.logs.JsonFormatter"
        )
    from logging.config import dictConfig

    try:
        dictConfig(wanted)
    except (ValueError, TypeError, AttributeError, ImportError, KeyError) as error:
        causes = f"{error}; {error.__cause__}" if error.__cause__ else f"{error}"
        raise ConfigurationError(f"LOGGING is no logging configuration (dictConfig): {causes}") from error


def run(
    services: Iterable[type],
    config: Mapping[str, Any] | None = None,
    backdoor_port: int | str | None = None,
    on_started: Callable[[list[str]], None] | None = None,
    parent_pipe: ParentPipe | None = None,
    with_traceback: bool = True,
    readiness: Readiness | None = None,
) -> int:
    """Run service classes in this process until they are stopped by a signal; 0 when they stopped in good
    order.

    `backdoor_port`: a port of loopback, or the path of a unix socket. `on_started` is called once, with the names of the
    services, when all of them are up. Raises ConfigurationError and the like when they cannot be started; what else kept them
    from it is logged, without its tracebacks unless `with_traceback`. A service that dies afterwards is logged, and the result
    is 1.
    """
    import gevent

    from zmqservices.containers import get_service_name
    from zmqservices.runners import ServiceRunner

    classes: dict[str, type] = {}
    for cls in services:
        other = classes.setdefault(get_service_name(cls), cls)
        if other is not cls:
            raise ConfigurationError(
                f"two classes are the service {get_service_name(cls)!r}: {_path(other)} and {_path(cls)}; give one of them "
                f"another name, or say which is meant: zmqservices run {_path(cls)}"
            )
    # gevent notices ended children only once the first child is watched. Without this, a fork that ended earlier would be missed,
    # and a wait for it would never end. It cannot be undone: from here on the loop takes every child's end.
    gevent.get_hub().loop.install_sigchld()
    runner = ServiceRunner(config)
    for cls in services:
        runner.add_service(cls)
    serve_documents(runner)
    backdoor = setup_backdoor(runner, backdoor_port) if backdoor_port is not None else None
    shutdown = Shutdown(runner, with_traceback, readiness or Readiness())
    shutdown.listen(parent_pipe or ParentPipe())
    _import_ahead()
    housekeeping = keep_memory()
    try:
        return shutdown.run(on_started)
    finally:
        housekeeping()
        shutdown.restore_signals()
        if backdoor is not None:
            backdoor.stop(timeout=0)
            if isinstance(backdoor_port, str):
                with suppress(FileNotFoundError):
                    os.unlink(backdoor_port)


def serve_documents(runner: ServiceRunner) -> None:
    """Serve /openapi.json where OPENAPI says so. Raises ConfigurationError where the extra for it is missing."""
    if configuration.boolean(runner.config, constants.OPENAPI_CONFIG_KEY, constants.DEFAULT_OPENAPI):
        try:
            from zmqservices.schema import serve_openapi
        except ImportError as error:
            raise ConfigurationError(f"OPENAPI is true, and {error}") from error
        serve_openapi(runner.containers)


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _import_ahead() -> None:
    """Import what is needed once services listen: then, a crowd of connections may have taken all descriptors."""
    import zmqservices.cli.failures
    import zmqservices.observability.described
    import zmqservices.process.collector
    import zmqservices.utils.concurrency
    import zmqservices.utils.shown_signatures  # noqa: F401


def _relax_collector() -> None:
    from zmqservices.process.collector import spare_what_lives  # A supervisor needs nothing of it.

    spare_what_lives()


def keep_memory() -> Callable[[], None]:
    """Keep the memory of large payloads, and return it to the system while idle. Returns a function that ends the checks."""
    import gevent

    from zmqservices.process import allocator

    if not allocator.keep_large_blocks():
        return lambda: None
    trim = allocator.IdleTrim()
    timer = gevent.get_hub().loop.timer(IDLE_CHECK_INTERVAL, IDLE_CHECK_INTERVAL, ref=False)
    timer.start(trim.check)
    return timer.close


class Killed(BaseException):
    """Thrown into the main greenlet when services do not end even after they were killed."""


class Shutdown:
    """Runs a runner and handles signals: the first one stops it gracefully, a second Ctrl-C kills it."""

    def __init__(self, runner: ServiceRunner, with_traceback: bool, readiness: Readiness) -> None:
        import gevent
        from gevent.event import Event

        self.runner = runner
        self.is_stopping = False
        self.is_killed = False
        self._is_started = False
        self._main = gevent.getcurrent()
        self._over = Event()
        self._handlers: list[Any] = []
        self._with_traceback = with_traceback
        self._announcement: Announcement | None = None
        self._readiness = readiness
        self._port_watcher: Any = None

    def listen(self, parent_pipe: ParentPipe) -> None:
        """Install the signal handlers. The end of a supervisor stops the services, too."""
        import signal

        import gevent

        from zmqservices.cli.signals import stop_signals

        self._handlers = [gevent.signal_handler(number, self.stop) for number in stop_signals()]
        self._handlers.append(gevent.signal_handler(signal.SIGINT, self.interrupted))
        parent_pipe.on_cut(self.stop)

    def restore_signals(self) -> None:
        """Remove the signal handlers."""
        for handler in self._handlers:
            handler.cancel()

    def run(self, on_started: Callable[[list[str]], None] | None) -> int:
        """Start the runner and wait for its end. Returns the exit code."""
        try:
            return self._run(on_started)
        except Killed:
            return KILLED
        finally:
            # A killed process does not wait for the directory; its leases expire.
            if self._announcement is not None and not self.is_killed:
                self._announcement.conceal()
            self._become_unready()
            self._over.set()

    def _run(self, on_started: Callable[[list[str]], None] | None) -> int:
        self._announcement = Announcement(self.runner)
        self._start()
        self._is_started = True
        if self.is_stopping:
            self._stop()
        else:
            names = list(self.runner.service_names)
            self._announcement.announce()
            self._become_ready()
            click.echo(f"{process_label()}Services started: {', '.join(names)}", err=True)
            sys.stderr.flush()
            if on_started:
                on_started(names)
            _relax_collector()
        return self._wait()

    def _become_ready(self) -> None:
        import gevent

        self._readiness.open()
        if self._readiness.listener is not None:
            self._port_watcher = gevent.get_hub().loop.io(self._readiness.listener.fileno(), 1)
            self._port_watcher.start(self._readiness.accept)

    def _become_unready(self) -> None:
        if self._port_watcher is not None:
            self._port_watcher.close()
            self._port_watcher = None
        self._readiness.stopping()

    def _start(self) -> None:
        with short_errors(self._with_traceback):
            try:
                self.runner.start()
            except BaseException as error:
                if isinstance(error, Exception):
                    logging.disable(logging.INFO)  # The sentence of the error is enough.
                try:
                    self.runner.kill()
                finally:
                    logging.disable(logging.NOTSET)
                raise

    def _wait(self) -> int:
        try:
            self.runner.wait()
        except Exception:
            _log.exception("a service died, and the others were stopped")
            return 1
        return KILLED if self.is_killed else 0

    def interrupted(self) -> None:
        """Ctrl-C was pressed."""
        if self.is_stopping:
            self.kill()
        else:
            click.echo("Stopping when the running calls have ended; Ctrl-C again to kill them", err=True)
            self.stop()

    def stop(self) -> None:
        """Stop gracefully; at once, or as soon as the services have come up."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self._become_unready()
        if self._is_started:
            self._stop()

    def _stop(self) -> None:
        try:
            self.runner.stop()
        except Exception:
            _log.exception("the services could not be stopped, and are killed")
            self.kill()

    def kill(self) -> None:
        """Stop without waiting for running calls, and end the process even if services hang."""
        import gevent

        self.is_stopping = self.is_killed = True
        with gevent.Timeout(KILL_TIMEOUT, False):
            self.runner.kill()
        if not self._over.wait(KILL_TIMEOUT):
            gevent.get_hub().loop.run_callback(self._end)

    def _end(self) -> None:
        # The hub runs this, so the main greenlet is waiting somewhere and can be interrupted.
        if not self._over.is_set():
            self._main.throw(Killed())
