"""Reports the errors of a service's methods to Sentry. Needs sentry-sdk 2; the extra is `sentry`.

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
#: The most seconds that a stopping service waits for its last reports to be sent.
FLUSH_TIMEOUT = 2.0


class SentryReporter(DependencyProvider):
    """Reports each error of a method, with the call's ids, user and arguments. Sensitive arguments are replaced by asterisks.

    Injects the call's own scope (a `sentry_sdk.Scope`). Tags and breadcrumbs that are set there, or with functions such as
    `sentry_sdk.set_tag` while the method runs, belong to this call's report only. Expected errors are reported as warnings;
    `report_expected=False` leaves them out. `options` take precedence over those in SENTRY. Sentry's integrations patch the
    standard library, so they are off unless `default_integrations: true` asks for them.
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
            # In a native thread, because flushing waits for a thread of the SDK and would block the hub.
            gevent.get_hub().threadpool.apply(client.close, kwds={"timeout": FLUSH_TIMEOUT})

    def kill(self) -> None:
        self.stop()

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        # Sentry's functions write into the isolation scope and report with the current one.
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
        """Put the facts about the call into the scope. Done only for calls that are reported."""
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
        # The arguments do not fit the method, or cannot be copied. They may contain sensitive values, so none is shown.
        return f"[not shown: {exc}]"
