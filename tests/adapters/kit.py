"""What the adapter tests share: adapters with plain configurations, and a run through the task state to whole events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from adapters.api import Adapter, Item, Observation, Resume, Session
from adapters.catalyst import Catalyst, CatalystConfig
from adapters.emit import Emit, EmitConfig
from adapters.triverse import Triverse, TriverseConfig
from gateway.pipeline import encode, tasks
from schemas.event import validate

NOW = "2026-06-01T00:00:00.000000Z"
FIRST = Resume(first=True, now=NOW)


def triverse(**options: Any) -> Triverse:
    return Triverse(
        TriverseConfig(**{"name": "studio", "adapter": "triverse", "url": "ws://up", "token": "k3y", **options})
    )


def emit(**options: Any) -> Emit:
    return Emit(EmitConfig(**{"name": "jobs", "adapter": "emit", "url": "ws://up", "token": "k3y", **options}))


def catalyst(**options: Any) -> Catalyst:
    options = options or {"uuid": "u-u-i-d"}
    return Catalyst(CatalystConfig(**{"name": "ops", "adapter": "catalyst", "url": "ws://up", **options}))


def session(adapter: Adapter[Any], index: int = 0, resume: Resume = FIRST, ticket: bytes | None = None) -> Session:
    return adapter.open(adapter.streams()[index], resume, ticket)


class Gateway:
    """The way of a frame through session and task state, without any I/O: whole canonical events come out."""

    def __init__(self, adapter: Adapter[Any]) -> None:
        self.source, self.adapter = adapter.config.name, adapter.config.adapter
        self.states: dict[str, tasks.State] = {}
        self.verdicts: list[tasks.Verdict] = []
        self.others: list[Item] = []

    def observe(self, news: Observation, stream: str = "all", live: Iterable[str] = ()) -> dict[str, Any] | None:
        state, change = tasks.observe(
            self.states.get(news.task_id), news,
            source=self.source, adapter=self.adapter, stream=stream, live=set(live), received_at=NOW,
        )  # fmt: skip
        if state is not None:
            self.states[news.task_id] = state
        if isinstance(change, tasks.Verdict):
            self.verdicts.append(change)
            return None
        assert state is not None
        event: dict[str, Any] = json.loads(encode.task_event(state, change, NOW))
        validate(event)
        return event

    def frames(self, session: Session, *frames: str | bytes) -> list[dict[str, Any]]:
        events = []
        for frame in frames:
            for item in session.on_frame(frame):
                if isinstance(item, Observation):
                    event = self.observe(item)
                    if event is not None:
                        events.append(event)
                else:
                    self.others.append(item)
        return events


def sse(payload: dict[str, Any], event: str = "update") -> str:
    """A Triverse frame as documented."""
    return f"event: {event}\ndata: {json.dumps(payload)}"


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]
