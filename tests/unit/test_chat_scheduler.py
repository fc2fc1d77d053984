"""The chat scheduler and the rollout on a real event loop, with servers that are coroutines."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from scenarios.workloads.rollout import scheduler as module
from scenarios.workloads.rollout.scheduler import (
    ChatScheduler,
    Completion,
    Conversation,
    Errors,
    Mode,
    Rollout,
    Routing,
    Turn,
    agreement,
    lost,
)

SERVERS = ("a", "b", "c")


class Servers:
    """Answers a turn with its place; remembers the order, and fails where it is told to."""

    def __init__(self, *failing: tuple[str, int], slow: str = "") -> None:
        self.failing = failing
        self.slow = slow
        self.seen: list[tuple[str, str, int]] = []
        self.most = Counter[str]()
        self.now = Counter[str]()

    async def send(self, server: str, turn: Turn) -> Completion:
        self.seen.append((server, turn.conversation, turn.number))
        self.now[server] += 1
        self.most[server] = max(self.most[server], self.now[server])
        await asyncio.sleep(0.02 if turn.conversation == self.slow else 0.001)
        self.now[server] -= 1
        if (turn.conversation, turn.number) in self.failing:
            msg = "the context is full"
            raise ValueError(msg)
        return Completion(text=f"{turn.conversation}/{turn.number}/{len(turn.messages)}", tokens=5)


def run(  # noqa: PLR0913 - the knobs of a rollout
servers: Servers, *, conversations: int = 6, turns: int = 3, mode: Mode = "async", routing: Routing = "sticky",
        errors: Errors = "delivered") -> list[Conversation]:  # fmt: skip
    """Run a rollout of the given shape."""
    chat = ChatScheduler(SERVERS, servers.send, routing=routing, errors=errors)
    rollout = Rollout(chat, lambda answer: f"tool saw {answer}", turns=turns, mode=mode)
    done = asyncio.run(rollout.run([f"prompt {number}" for number in range(conversations)]))
    assert sum(chat.in_flight.values()) == 0
    assert sum(chat.sent.values()) == len(servers.seen)
    return done


def test_first_turns_go_to_the_least_loaded_server() -> None:
    servers = Servers()
    run(servers, turns=1)
    assert servers.most == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize(("routing", "moved"), [("sticky", False), ("random", True)])
def test_sticky_conversations_stay_with_their_server(routing: Routing, *, moved: bool) -> None:
    servers = Servers()
    run(servers, turns=4, routing=routing)
    places = {one: {server for server, name, _ in servers.seen if name == one} for _, one, _ in servers.seen}
    assert any(len(found) > 1 for found in places.values()) is moved


def test_a_server_that_is_forgotten_is_chosen_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversation that was not heard of for longest loses its server; the others keep theirs."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    chat = ChatScheduler(SERVERS, Servers().send)
    chat.in_flight.update({"a": 0, "b": 1, "c": 2})
    assert [chat.choose(name) for name in ("one", "two")] == ["a", "a"]
    chat.in_flight["a"] = 9
    assert [chat.choose(name) for name in ("one", "three", "one", "two")] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_each_turn_holds_the_answers_and_what_the_tool_said(mode: Mode) -> None:
    (one,) = run(Servers(), conversations=1, mode=mode)
    assert one.answers == ["c-0/0/1", "c-0/1/3", "c-0/2/5"]
    assert [message["role"] for message in one.messages] == ["user", *["assistant", "tool"] * 2]
    assert one.messages[2]["content"] == "tool saw c-0/0/1"
    assert one.tokens == 15


def test_a_slow_conversation_holds_up_the_others_only_if_they_go_turn_by_turn() -> None:
    order = {}
    for mode in ("async", "sync"):
        servers = Servers(slow="c-0")
        run(servers, mode=mode)
        order[mode] = [(name, number) for _, name, number in servers.seen]
    assert order["async"].index(("c-5", 2)) < order["async"].index(("c-0", 1))
    assert [number for _, number in order["sync"]] == sorted(number for _, number in order["sync"])


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_a_delivered_exception_ends_its_conversation_and_no_other(mode: Mode) -> None:
    done = run(Servers(("c-1", 1)), mode=mode)
    assert [str(one.error) for one in done if one.error] == ["the context is full"]
    assert done[1].answers == ["c-1/0/1"]
    assert [len(one.answers) for one in done] == [3, 1, 3, 3, 3, 3]
    assert lost(done, 3) == []


def test_a_dropped_exception_loses_its_conversation_without_a_word() -> None:
    done = run(Servers(("c-1", 1)), errors="dropped")
    assert [one.error for one in done] == [None] * 6
    assert lost(done, 3) == ["c-1"]


def test_agreement_is_the_share_of_conversations_with_all_answers_the_same() -> None:
    def conversation(*answers: str) -> Conversation:
        return Conversation(id="c", messages=[], answers=list(answers))

    one = [conversation("a", "b"), conversation("a", "c")]
    assert agreement(one, one) == 1
    assert agreement(one, [conversation("a", "b"), conversation("a", "d")]) == 0.5
