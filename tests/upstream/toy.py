"""An adapter for an upstream that exists in these tests alone: JSON frames, one key says what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from adapters.api import (
    Adapter,
    Continuity,
    Fault,
    Finished,
    Item,
    Observation,
    Rejected,
    Request,
    Resume,
    Session,
    SourceConfig,
    Stream,
    Verdict,
)

SECRET = "toy-secret/with+signs"


class ToyConfig(SourceConfig):
    """As every source."""

    adapter: str = "toy"


class Toy(Adapter[ToyConfig]):
    """What it can do is set from outside, attribute by attribute."""

    Config = ToyConfig

    def __init__(self, config: ToyConfig, *streams: Stream) -> None:
        super().__init__(config)
        self.configured = list(streams)
        self.resumes: list[Resume] = []
        self.lists = self.looks_up = self.probes = False
        self.authorizes = False
        self.on_frame: Callable[[str | bytes], None] | None = None
        self.closes: list[tuple[int | None, str]] = []

    def streams(self) -> list[Stream]:
        return self.configured

    def secrets(self) -> list[str]:
        return [SECRET]

    def open(self, stream: Stream, resume: Resume, ticket: bytes | None) -> Session:
        self.resumes.append(resume)
        if ticket is not None and not ticket.startswith(b"ticket"):
            raise ValueError(f"not a ticket: {ticket!r}")
        return ToySession(self, stream, resume, ticket)

    def authorize(self, stream: Stream) -> Request | None:
        return Request(url=self.config.rest("/ticket")) if self.authorizes else None

    def watch(self, task_id: str) -> Stream | None:
        if " " in task_id:
            raise ValueError("a task id has no spaces")
        return watch(task_id)

    def created(self, payload: bytes) -> list[Item]:
        return read(payload, "live")

    def lookup(self, task_id: str) -> Request | None:
        return self._rest(f"/tasks/{task_id}") if self.looks_up else None

    def on_lookup(self, task_id: str, body: bytes) -> list[Item]:
        return read(body, "reconcile")

    def listing(self, stream: Stream, page: int) -> Request | None:
        return self._rest("/tasks", {"page": str(page)}) if self.lists else None

    def on_listing(self, body: bytes) -> list[Item]:
        return read(body, "reconcile")

    def probe(self, task_id: str) -> Stream | None:
        return Stream(key=f"probe:{task_id}", path=f"/probe/{task_id}", task_id=task_id) if self.probes else None

    def download(self, task_id: str) -> Request | None:
        return self._rest(f"/download/{task_id}") if self.looks_up else None

    def on_download(self, body: bytes) -> msgspec.Raw | Rejected:
        return msgspec.Raw(body) if body.startswith(b"{") else Rejected("not_an_object", "no object", "")

    def _rest(self, path: str, query: dict[str, str] | None = None) -> Request:
        return Request(url=self.config.rest(path, query), headers={"Authorization": f"Bearer {SECRET}"})


class ToySession(Session):
    """Frames are JSON objects, or lists of them."""

    def __init__(self, toy: Toy, stream: Stream, resume: Resume, ticket: bytes | None) -> None:
        self._toy = toy
        self._stream = stream
        self._cursor = resume.cursor
        self._origin = "catchup" if stream.settle is not None else "live"
        self._ticket = ticket

    def request(self) -> Request:
        query = {"token": SECRET}
        if self._ticket is not None:
            query["ticket"] = self._ticket.decode()
        return Request(url=self._toy.config.ws(self._stream.path, query))

    def on_frame(self, frame: str | bytes) -> list[Item]:
        if self._toy.on_frame is not None:
            self._toy.on_frame(frame)
        items = read(frame, self._origin)
        for value in json.loads(frame) if frame[:1] in ("[", b"[") else [json.loads(frame)]:
            if "seq" in value:
                self._cursor = {"seq": value["seq"]}
        return items

    def on_settled(self) -> None:
        self._origin = "live"

    @property
    def cursor(self) -> dict[str, Any] | None:
        return self._cursor

    def on_close(self, code: int | None, reason: str) -> Verdict:
        self._toy.closes.append((code, reason))
        return {4001: "refused", 4002: "finished", 4003: "slow_down"}.get(code or 0, "retry")  # type: ignore[return-value]


def watch(task_id: str, **options: Any) -> Stream:
    """A single-task watch."""
    return Stream(key=f"task:{task_id}", path=f"/watch/{task_id}", task_id=task_id, **{"settle": 1.0, **options})


def everything(**options: Any) -> Stream:
    """The stream of all tasks."""
    return Stream(key="all", path="/all", **{"whole_source": True, "settle": 1.0, **options})


def read(frame: str | bytes, origin: str) -> list[Item]:
    """What a frame says."""
    values = json.loads(frame)
    return [_item(value, origin) for value in (values if isinstance(values, list) else [values])]


def _item(value: dict[str, Any], origin: str) -> Item:
    if "fault" in value:
        return Fault(value["fault"], f"the upstream says {value['fault']} {SECRET}", value["verdict"])
    if "done" in value:
        return Finished()
    if "missed" in value:
        return Continuity(value["missed"])
    if "task" not in value:
        return Rejected("no_task", f"no task in it, {SECRET}", json.dumps(value))
    return Observation(
        task_id=value["task"],
        native_type="state",
        payload=msgspec.Raw(json.dumps(value).encode()),
        origin=origin,  # type: ignore[arg-type]
        status=value.get("status", "running"),
        created_at=value.get("created_at", msgspec.UNSET),
    )
