"""Providers that inject context data of a call: a language, a user, a token.

    class Greeting:
        name = "greeting"
        language = Language()

        @rpc
        def hello(self):
            return {"da": "hej"}.get(self.language, "hello")
"""

from __future__ import annotations

from typing import Any

from zmqservices.constants import (
    AUTH_TOKEN_CONTEXT_KEY,
    LANGUAGE_CONTEXT_KEY,
    USER_AGENT_CONTEXT_KEY,
    USER_ID_CONTEXT_KEY,
)
from zmqservices.extensions import DependencyProvider
from zmqservices.worker_context import WorkerContext

__all__ = ["AuthToken", "ContextDataProvider", "Language", "UserAgent", "UserId"]


class ContextDataProvider(DependencyProvider):
    """Injects the context data of `context_key`; None if the call has none. Subclass it for your own keys."""

    context_key: Any = None

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        return worker_ctx.data.get(self.context_key)


class Language(ContextDataProvider):
    """The language in which the caller wants the answer."""

    context_key = LANGUAGE_CONTEXT_KEY


class UserId(ContextDataProvider):
    """The id of the user on whose behalf the call is made."""

    context_key = USER_ID_CONTEXT_KEY


class UserAgent(ContextDataProvider):
    """The program that the user uses, such as a browser."""

    context_key = USER_AGENT_CONTEXT_KEY


class AuthToken(ContextDataProvider):
    """The token that came with the call. It is not checked."""

    context_key = AUTH_TOKEN_CONTEXT_KEY
