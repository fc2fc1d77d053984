"""Sends the turns of many conversations to several servers, and calls back with each completion or its exception.

Only asyncio: how a request reaches a server is the caller's. The least loaded server gets the first turn of a
conversation; ``sticky`` lets the later turns follow it, so that its prefix cache has what they begin with.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

REMEMBERED: Final = 10_000
"""So many conversations keep their server; the one that has not been heard of for longest is forgotten first."""

Message = dict[str, str]
Routing = Literal["sticky", "random"]
Errors = Literal["delivered", "dropped"]
Mode = Literal["async", "sync"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request: the messages so far of a conversation."""

    conversation: str
    number: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a server answered."""

    text: str
    tokens: int


Send = Callable[[str, Turn], Awaitable[Completion]]
"""Send a turn to the server of that address."""
Callback = Callable[[Turn, Completion | None, Exception | None], Awaitable[None]]
"""Called once for each turn, with its completion or with what went wrong."""


class ChatScheduler:
    """Chooses a server for each turn and hands the outcome to the callback."""

    def __init__(
        self,
        servers: Sequence[str],
        send: Send,
        *,
        routing: Routing = "sticky",
        errors: Errors = "delivered",
        seed: int = 0,
    ) -> None:
        self.servers = tuple(servers)
        self.in_flight = Counter(dict.fromkeys(servers, 0))
        self.sent: Counter[str] = Counter()
        self._send = send
        self._routing = routing
        self._errors = errors
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._server_of: OrderedDict[str, str] = OrderedDict()

    def choose(self, conversation: str) -> str:
        """Return the server for the next turn of a conversation."""
        if self._routing == "random":
            return self._random.choice(self.servers)
        known = self._server_of.pop(conversation, None)
        server = known if known is not None else min(self.servers, key=self.in_flight.__getitem__)
        self._server_of[conversation] = server
        if len(self._server_of) > REMEMBERED:
            self._server_of.popitem(last=False)
        return server

    async def submit(self, turn: Turn, callback: Callback) -> None:
        """Send one turn and call back; with ``errors="dropped"`` an exception is logged, and nobody is called."""
        server = self.choose(turn.conversation)
        self.in_flight[server] += 1
        self.sent[server] += 1
        try:
            completion = await self._send(server, turn)
        except Exception as error:  # noqa: BLE001 - whatever a client raises is the business of the callback
            if self._errors == "dropped":
                logging.getLogger(__name__).warning("turn %d of %s: %s", turn.number, turn.conversation, error)
            else:
                await callback(turn, None, error)
            return
        finally:
            self.in_flight[server] -= 1
        await callback(turn, completion, None)


@dataclass(slots=True, kw_only=True)
class Conversation:
    """A conversation while it grows."""

    id: str
    messages: list[Message]
    answers: list[str] = field(default_factory=list)
    tokens: int = 0
    error: Exception | None = None

    def next_turn(self) -> Turn:
        """Return the request for its next answer."""
        return Turn(conversation=self.id, number=len(self.answers), messages=tuple(self.messages))


Tool = Callable[[str], str]
"""What is called with each answer of the model; what it returns goes on the conversation."""


class Rollout:
    """Lets conversations run for some turns: each on its own (async), or all turn by turn (sync)."""

    def __init__(self, scheduler: ChatScheduler, tool: Tool, *, turns: int, mode: Mode = "async") -> None:
        self._scheduler = scheduler
        self._tool = tool
        self._turns = turns
        self._mode = mode
        self._open: dict[str, Conversation] = {}

    async def run(self, prompts: Sequence[str], name: str = "c") -> list[Conversation]:
        """Run one conversation for each prompt; each has all its answers, an error, or (if it was lost) neither."""
        everyone = [
            Conversation(id=f"{name}-{number}", messages=[{"role": "user", "content": prompt}])
            for number, prompt in enumerate(prompts)
        ]
        self._open = {one.id: one for one in everyone}
        if self._mode == "async":
            await self._step(everyone)
        else:
            for turn in range(self._turns):
                await self._step([one for one in everyone if one.error is None and len(one.answers) == turn])
        return everyone

    async def _step(self, some: Sequence[Conversation]) -> None:
        await asyncio.gather(*(self._scheduler.submit(one.next_turn(), self._completed) for one in some))

    async def _completed(self, turn: Turn, completion: Completion | None, error: Exception | None) -> None:
        """Take an answer, call the tool with it, and go on."""
        one = self._open[turn.conversation]
        if completion is None:
            one.error = error
            return
        one.answers.append(completion.text)
        one.tokens += completion.tokens
        if len(one.answers) == self._turns:
            return
        one.messages += [
            {"role": "assistant", "content": completion.text},
            {"role": "tool", "tool_call_id": f"{one.id}-{turn.number}", "content": self._tool(completion.text)},
        ]
        if self._mode == "async":
            await self._step([one])


def lost(conversations: Sequence[Conversation], turns: int) -> list[str]:
    """Return the conversations that were neither finished nor told of an error."""
    return [one.id for one in conversations if one.error is None and len(one.answers) < turns]


def agreement(one: Sequence[Conversation], other: Sequence[Conversation]) -> float:
    """Return the share of conversations that have the same answers in both runs, in the same order of prompts."""
    return sum(a.answers == b.answers for a, b in zip(one, other, strict=True)) / len(one)
