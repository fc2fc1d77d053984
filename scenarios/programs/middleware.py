"""What a server says of its requests, and a route as verl's first server had it: ASGI middleware for vLLM's own option.

``--middleware scenarios.programs.middleware.Seen`` records each chat request as it arrives, with its id and how many
attempts the client made before. ``…UncancelledRoute`` answers ``/v1/chat/completions`` in the way of verl's
`AsyncvLLMServer.chat_completion` (verl#1138): it calls vLLM's serving class as vLLM's own route does, but without
`with_cancellation`, so that a request whose client is gone is served to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from harness import child

CHAT: Final = "/v1/chat/completions"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Sender = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Sender], Awaitable[None]]


def is_chat(scope: Scope) -> bool:
    """Whether it is a request to the chat route."""
    return bool(scope["type"] == "http" and scope["path"] == CHAT)


class Seen:
    """Records the chat requests that reach the server."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Sender) -> None:
        """Record a chat request before it is served, and when that is over."""
        if not is_chat(scope):
            await self.app(scope, receive, send)
            return
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        retry = headers.get("x-stainless-retry-count", "0")
        child.mark("request_seen", request_id=headers.get("x-request-id"), retry=int(retry))
        try:
            await self.app(scope, receive, send)
        finally:
            child.mark("request_over", retry=int(retry))


class UncancelledRoute:
    """Serves chat requests that are not streamed, and does not look whether the client still waits."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Sender) -> None:
        """Answer a chat request; leave all others to vLLM."""
        if not is_chat(scope):
            await self.app(scope, receive, send)
            return
        from fastapi import Request
        from fastapi.responses import JSONResponse

        try:
            from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        except ImportError:  # up to vLLM 0.13
            from vllm.entrypoints.openai.protocol import ChatCompletionRequest

        raw = Request(scope, receive)
        asked = ChatCompletionRequest(**await raw.json())
        answer = await scope["app"].state.openai_serving_chat.create_chat_completion(asked, raw)
        failed = getattr(answer, "error", None)
        response = JSONResponse(content=answer.model_dump(), status_code=failed.code if failed else 200)
        await response(scope, receive, send)
