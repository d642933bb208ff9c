"""Providers that inject what came with a call: a language, a user, a token.

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
    """Injects the context data of `context_key`; None for a call that came without. Subclass it for keys of your own."""

    context_key: Any = None

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        return worker_ctx.data.get(self.context_key)


class Language(ContextDataProvider):
    """The language that the caller wants to be answered in."""

    context_key = LANGUAGE_CONTEXT_KEY


class UserId(ContextDataProvider):
    """Whose call it is."""

    context_key = USER_ID_CONTEXT_KEY


class UserAgent(ContextDataProvider):
    """The program that the user sits in front of."""

    context_key = USER_AGENT_CONTEXT_KEY


class AuthToken(ContextDataProvider):
    """The proof that came with the call; nobody has looked at it yet."""

    context_key = AUTH_TOKEN_CONTEXT_KEY
