"""Makes the exceptions of failed calls, with their texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zmqservices.cluster.calls.call import PendingCall
from zmqservices.cluster.calls.instances import Instance
from zmqservices.exceptions import MaybeExecuted, Overloaded, RemoteUnavailable, RpcTimeout, UnknownService


def timed_out(call: PendingCall) -> RpcTimeout:
    """The error of a call whose caller's time is over."""
    limit = "its caller's time" if call.timeout is None else f"{call.timeout:g} s"
    where = f" by {call.instance.record.instance}" if call.instance is not None else ""
    return RpcTimeout(f"{call.service}.{call.method} was not answered{where} within {limit}")


def ran_out_of_time(call: PendingCall, error: Mapping[str, Any], is_spent: bool) -> RpcTimeout:
    """The error of a call that the service ended for its time. `is_spent`: the caller's time is over as well."""
    if is_spent:
        return timed_out(call)
    # The limit is the method's, not the caller's.
    where = call.instance.record.instance
    return RpcTimeout(f"{call.service}.{call.method} was ended by {where}: {error.get('value')}")


def unavailable(call: PendingCall, directory: str) -> RemoteUnavailable | UnknownService:
    """The error of a call that waited in vain for an instance. `directory` describes the registries."""
    pool = call.pool
    if call.history is not None and call.history.lost is not None:
        return lost(call, call.history.lost, f", and no other instance can be asked ({pool.why_nobody() or directory})")
    if pool.instances:
        return RemoteUnavailable(
            f"{call.service}.{call.method} was not sent: no instance of '{call.service}' can be asked "
            f"({pool.why_nobody()})"
        )
    return UnknownService(call.service, f"no instance of {call.service!r} is known; {directory}")


def refused(call: PendingCall, error: Mapping[str, Any]) -> Overloaded:
    """The error of a call that full instances refused."""
    return Overloaded(f"{call.service}.{call.method} was refused: {error.get('value')}")


def lost(call: PendingCall, instance: Instance, besides: str = "") -> MaybeExecuted:
    """The error of a call that is not repeated although the link to `instance` was lost while it had the call."""
    return MaybeExecuted(
        f"the link to instance {instance.record.instance} at {instance.peer.endpoint} was lost while "
        f"{call.service}.{call.method} was under way there; it may or may not have run{besides}"
    )


def out_of_budget(call: PendingCall) -> RpcTimeout | MaybeExecuted:
    """The error of a call whose time ended before it could be repeated after a lost link."""
    if call.history is None or call.history.lost is None:
        return timed_out(call)
    return lost(call, call.history.lost, "; it was not repeated: the retry budget of the service is used up")
