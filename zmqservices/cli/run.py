"""`zmqservices run`: runs services until a signal stops them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from zmqservices import configuration, constants
from zmqservices.cli import complete, streams
from zmqservices.cli.backdoor import setup_backdoor
from zmqservices.cli.log_setup import setup_logging
from zmqservices.cli.metrics import served
from zmqservices.cli.options import AS_NAMEKO, INSECURE, Flags, be_nameko, takes_settings
from zmqservices.cli.parent_pipe import ParentPipe, imported_files
from zmqservices.cli.patching import import_from_here, monkey_patch
from zmqservices.cli.readiness import Readiness
from zmqservices.cli.services import import_service, import_services
from zmqservices.cli.shutdown import Shutdown
from zmqservices.configuration import config
from zmqservices.exceptions import CommandError, ConfigurationError
from zmqservices.removed import removed_names

if TYPE_CHECKING:
    from zmqservices.runners import ServiceRunner

__all__ = ["import_service", "run", "run_command", "setup_backdoor", "setup_logging"]

#: Seconds between two checks whether the process is idle, so that kept memory is returned to the system.
IDLE_CHECK_INTERVAL = 5.0

__getattr__ = removed_names(__name__, {"main": "use zmqservices.cli.run.run_command, or `run` there to run services from Python"})


@click.command("run")
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...", shell_complete=complete.modules)
@takes_settings
@AS_NAMEKO
@click.option(
    "--processes", type=click.IntRange(1), metavar="N",
    help="Run these services in N processes, and restart each that ends.",
)  # fmt: skip
@click.option("--reload", is_flag=True, help="Restart the services when a source file changes.")
@click.option(
    "--backdoor-port", "--backdoor", "backdoor_port", type=click.IntRange(0, 65535), metavar="N",
    help="Listen on 127.0.0.1:N for `zmqservices backdoor N`. With --processes, each process has its own port: N, N+1, ...",
)  # fmt: skip
@click.option(
    "--backdoor-socket", metavar="PATH",
    help="Listen at the unix socket PATH, which only your user can reach, for `zmqservices backdoor PATH`. With --processes, "
    "each process has its own: PATH, PATH.1, ...",
)  # fmt: skip
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), metavar="N",
    help="Serve metrics for Prometheus at http://127.0.0.1:N/metrics. One page has the metrics of all --processes.",
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

    Runs every class of the module that has an entrypoint, such as @rpc. SIGTERM, SIGHUP or Ctrl-C stops the
    services once their running calls have ended. A second Ctrl-C stops them at once.
    """
    if backdoor_port is not None and backdoor_socket is not None:
        raise CommandError("--backdoor-port and --backdoor-socket cannot be used together; leave one out")
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


def run(
    services: Iterable[type],
    config: Mapping[str, Any] | None = None,
    backdoor_port: int | str | None = None,
    on_started: Callable[[list[str]], None] | None = None,
    parent_pipe: ParentPipe | None = None,
    with_traceback: bool = True,
    readiness: Readiness | None = None,
) -> int:
    """Run service classes in this process until a signal stops them. Returns 0 if all of them stopped in order.

    `backdoor_port`: a port of loopback, or the path of a unix socket. `on_started` is called once, with the names of the
    services, when all of them are up. Raises the first error if the services cannot start, such as a ConfigurationError, and
    logs the others, with tracebacks if `with_traceback`. If a service dies later, its error is logged and the result is 1.
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
                f"another name, or run only one: zmqservices run {_path(cls)}"
            )
    # Without this, gevent notices ended children only after the first child is watched: it would miss a child that ended
    # earlier, and a wait for that child would never end. It cannot be undone: from here on, the loop reaps every child.
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
    """Serve /openapi.json if the setting OPENAPI is true. Raises ConfigurationError if its extra is not installed."""
    if configuration.boolean(runner.config, constants.OPENAPI_CONFIG_KEY, constants.DEFAULT_OPENAPI):
        try:
            from zmqservices.schema import serve_openapi
        except ImportError as error:
            raise ConfigurationError(f"OPENAPI is true, and {error}") from error
        serve_openapi(runner.containers)


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _import_ahead() -> None:
    """Import the modules that are needed later: connections may have taken all file descriptors by then."""
    import zmqservices.cli.failures
    import zmqservices.observability.described
    import zmqservices.process.collector
    import zmqservices.utils.concurrency
    import zmqservices.utils.shown_signatures  # noqa: F401


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
