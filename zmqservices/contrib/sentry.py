"""Reports the errors of a service's methods to Sentry. Stands on sentry-sdk 2; the extra is `sentry`.

    class Orders:
        name = "orders"
        sentry = SentryReporter()

        @rpc(expected_exceptions=OutOfStock, sensitive_arguments="card")
        def place(self, item, card):
            self.sentry.set_tag("item", item)

    # config.yaml
    # SENTRY:
    #   dsn: https://key@sentry.example/1
    #   environment: production
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import gevent
from gevent.monkey import is_module_patched

from zmqservices import constants
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.utils import get_redacted_args
from zmqservices.worker_context import ExcInfo, WorkerContext

try:
    import sentry_sdk
    from sentry_sdk.scope import use_isolation_scope, use_scope
    from sentry_sdk.utils import event_from_exception
except ImportError as error:
    raise ImportError("sentry-sdk 2 is not installed; `pip install zmqservices[sentry]` brings it") from error

__all__ = ["SENTRY_KEY", "SentryReporter"]

#: The setting with the arguments of `sentry_sdk.init`, such as `dsn`. Without a `dsn` nothing is sent.
SENTRY_KEY = "SENTRY"
#: Seconds for which a stopping service waits until its last reports are sent.
FLUSH_TIMEOUT = 2.0


class SentryReporter(DependencyProvider):
    """Reports what a method raises, with the call's ids, user and arguments; sensitive arguments are asterisks.

    Injects the call's own scope (a `sentry_sdk.Scope`): tags and breadcrumbs set there go with this call's report only, and
    so do those of `sentry_sdk.set_tag` and its kin while the method runs. Errors that are expected are warnings;
    `report_expected=False` leaves them out. `options` are those of SENTRY, and come before them. Sentry's integrations,
    which patch the standard library, are off unless `default_integrations: true` asks for them.
    """

    def __init__(self, report_expected: bool = True, **options: object) -> None:
        super().__init__()
        self.report_expected = report_expected
        self.options = options
        self.client: Any = None

    def setup(self) -> None:
        configured = self.container.config.get(SENTRY_KEY) or {}
        if not isinstance(configured, Mapping):
            raise ConfigurationError(f"{SENTRY_KEY} is {configured!r}; a mapping such as {{'dsn': 'https://...'}} is needed")
        self._of_workers: dict[Any, tuple[Any, ExitStack]] = {}
        try:
            self.client = sentry_sdk.Client(**{"default_integrations": False, **configured, **self.options})
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(f"{SENTRY_KEY} has options that Sentry refuses: {exc}") from exc

    def stop(self) -> None:
        """Send the reports that have not been sent."""
        client, self.client = self.client, None
        if client is None:
            return
        if is_module_patched("threading"):
            client.close(timeout=FLUSH_TIMEOUT)
        else:
            # Flushing waits for a thread of the SDK, in a way that would block the hub.
            gevent.get_hub().threadpool.apply(client.close, kwds={"timeout": FLUSH_TIMEOUT})

    def kill(self) -> None:
        self.stop()

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        # Sentry's functions write into the one and report by the other.
        scope, current = sentry_sdk.Scope(client=self.client), sentry_sdk.Scope(client=self.client)
        service, method = worker_ctx.service_name, worker_ctx.entrypoint.method_name
        scope.set_transaction_name(f"{service}.{method}")
        scope.set_tag("service", service)
        scope.set_tag("method", method)
        stack = ExitStack()
        stack.enter_context(use_isolation_scope(scope))
        stack.enter_context(use_scope(current))
        self._of_workers[worker_ctx] = (scope, stack)
        return scope

    def worker_result(
        self, worker_ctx: WorkerContext, result: object = None, exc_info: ExcInfo | None = None
    ) -> None:
        if exc_info is None:
            return
        is_expected = isinstance(exc_info[1], worker_ctx.entrypoint.expected_exceptions)
        if is_expected and not self.report_expected:
            return
        scope, _ = self._of_workers[worker_ctx]
        self._describe(worker_ctx, scope)
        event, hint = event_from_exception(exc_info, client_options=self.client.options)
        event["level"] = "warning" if is_expected else "error"
        sentry_sdk.capture_event(event, hint=hint)

    def _describe(self, worker_ctx: WorkerContext, scope: Any) -> None:
        """The facts about the call. Collected only for calls that are reported."""
        scope.set_tag("call_id", worker_ctx.call_id)
        scope.set_context("call", {"call_id_stack": worker_ctx.call_id_stack, "arguments": _arguments(worker_ctx)})
        user_id = worker_ctx.data.get(constants.USER_ID_CONTEXT_KEY)
        if user_id is not None:
            scope.set_user({"id": str(user_id)})

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        _, stack = self._of_workers.pop(worker_ctx)
        stack.close()


def _arguments(worker_ctx: WorkerContext) -> Any:
    try:
        return get_redacted_args(worker_ctx.entrypoint, *worker_ctx.args, **worker_ctx.kwargs)
    except Exception as exc:
        # Arguments that do not fit the method, or cannot be copied. They may hold sensitive values, so none is shown.
        return f"[not shown: {exc}]"
