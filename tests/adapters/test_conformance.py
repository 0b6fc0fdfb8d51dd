"""The conformance kit: the three built-in adapters pass it, and each card can fail."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

import gateway.clock  # noqa: F401  # a module with I/O, for card 10
from adapters.api import Item, Rejected, Request, Session, Stream, Verdict
from adapters.catalyst import Catalyst
from adapters.conformance import Card, Kit
from adapters.emit import Emit
from adapters.emit.adapter import EmitSession
from adapters.triverse import Triverse
from tests.adapters import test_catalyst, test_emit, test_triverse
from tests.adapters.kit import sse

SECRET = "s3cret-canary"
TRIVERSE = Kit(
    Triverse,
    {"name": "a", "adapter": "triverse", "url": "wss://up", "token": SECRET},
    frames=[
        sse(test_triverse.RUNNING), sse({**test_triverse.FLOW, "data": {**test_triverse.FLOW["data"], "userId": "1nternal"}}),  # type: ignore[dict-item]
        sse(test_triverse.SUCCESS), sse(test_triverse.SUCCESS, "finalized"),
    ],
    tomorrow=[sse({**test_triverse.RUNNING, "status": "PAUSED"}), sse({**test_triverse.RUNNING, "x": 1}), sse(test_triverse.RUNNING, "moved")],
    internal=["1nternal"],
)  # fmt: skip
EMIT = Kit(
    Emit,
    {"name": "a", "adapter": "emit", "url": "wss://up", "token": SECRET, "spaces": ["s"]},
    frames=[
        json.dumps(each)
        for each in (
            test_emit.INIT, test_emit.DELIVERED, test_emit.TIMEOUT, test_emit.ACKED, test_emit.PROGRESS, test_emit.CHECKPOINT,
            test_emit.RETRIED, test_emit.COMPLETED, test_emit.DEAD,
        )
    ],
    tomorrow=[json.dumps({**test_emit.PROGRESS, "type": "sang"}), json.dumps({**test_emit.INIT, "status": "afloat"})],
)  # fmt: skip
CATALYST = Kit(
    Catalyst,
    {"name": "a", "adapter": "catalyst", "url": "wss://up", "auth_url": "https://up/auth", "api_key": SECRET},
    frames=[json.dumps(test_catalyst.SAMPLE)],
    tomorrow=[json.dumps([test_catalyst.item("task_sang")])],
    ticket=b'{"uuid":"u"}',
)


@pytest.mark.parametrize("card", [*TRIVERSE.cards(), *EMIT.cards(), *CATALYST.cards()], ids=str)
def test_the_built_in_adapters_conform(card: Card) -> None:
    """Every card, for each of the three."""
    card()


class _Broken(Emit):
    """Breaks one promise at a time."""

    how: ClassVar[str] = ""

    def streams(self) -> list[Stream]:
        first = super().streams()
        return {"no streams": [], "twins": first * 2, "query": [Stream(key="a", path="/x?y=1")]}.get(self.how, first)

    def secrets(self) -> list[str]:
        return [] if self.how == "unnamed secret" else super().secrets()

    def open(self, *args: Any) -> Session:
        return _BrokenSession(super().open(*args), self.how)


class _BrokenSession(EmitSession):
    runs = 0

    def __init__(self, inner: Session, how: str) -> None:
        super().__init__(inner.request(), None, {})
        self._how, self._poisoned = how, False
        _BrokenSession.runs += 1

    def request(self) -> Request:
        url = super().request().url
        return Request(url=url.replace("wss", "https")) if self._how == "scheme" else Request(url=url)

    def on_frame(self, frame: str | bytes) -> list[Item]:
        if self._how == "raises" and not frame:
            raise IndexError
        if self._how == "no items" and not frame:
            return [None]  # type: ignore[list-item]
        if self._how == "cut" and "\\ud83d" in str(frame):
            return [Rejected("malformed", "half a character")]
        items = super().on_frame(frame)
        for item in items:
            if isinstance(item, Rejected):
                self._poisoned = True
                continue
            match self._how:
                case "no type":
                    item.type = "task.sang"  # type: ignore[union-attr]
                case "no identity":
                    item.identity = None  # type: ignore[union-attr]
                case "bad time":
                    item.time = "now"  # type: ignore[union-attr]
                case "poison" if self._poisoned:
                    return []
                case "chance":
                    item.task_id = str(_BrokenSession.runs)  # type: ignore[union-attr]
                case "half" if "\\ud83d" in str(frame):
                    item.name = "\ud83d"  # type: ignore[union-attr]
                case "familiar":
                    item.unfamiliar = False  # type: ignore[union-attr]
        return [Rejected("x", "y")] if self._how == "rejects" and "init" in str(frame) else items

    def on_close(self, code: int | None, reason: str) -> Verdict:
        return {"verdict": "whatever", "success": "finished"}.get(self._how, "retry")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("no streams", 2), ("twins", 2), ("query", 2), ("unnamed secret", 3), ("scheme", 3), ("rejects", 4), ("no type", 5),
        ("no identity", 5), ("bad time", 5), ("chance", 6), ("raises", 7), ("no items", 7), ("poison", 8), ("verdict", 9),
        ("success", 9), ("familiar", 11), ("cut", 13), ("half", 13),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named_by_its_card(how: str, number: int) -> None:
    """Every card can fail, and says which promise it was."""
    broken = type("Broken", (_Broken,), {"how": how})
    kit = Kit(broken, EMIT.config, EMIT.frames, EMIT.tomorrow)

    def run_all() -> None:
        for card in kit.cards():
            card()

    with pytest.raises(AssertionError, match=f"card {number} "):
        run_all()


def test_leaks_and_loose_configurations_are_found() -> None:
    """Cards 1, 10 and 12 need something else to be broken."""

    class Loose(Emit.Config):  # type: ignore[name-defined,misc]
        model_config: ClassVar[Any] = {"extra": "ignore"}

    with pytest.raises(AssertionError, match="card 1 "):
        Kit(type("Open", (Emit,), {"Config": Loose}), EMIT.config, EMIT.frames).cards()[0]()
    with pytest.raises(AssertionError, match="card 12 "):
        Kit(Emit, EMIT.config, EMIT.frames, internal=["process-video"]).cards()[-1]()
    impure = type("Impure", (Emit,), {"__module__": "gateway.clock"})
    with pytest.raises(AssertionError, match=r"card 10 .*asyncio"):
        Kit(impure, EMIT.config, EMIT.frames).cards()[9]()
