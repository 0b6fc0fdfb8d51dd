"""Stand-ins for the parts of the HTTP application: a log in memory, sources that only remember, tokens by name."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from aiohttp import web

from adapters.api import Item, Observation, Rejected, Stream
from gateway.access import Grant
from gateway.clock import SystemClock
from gateway.errors import Refused
from gateway.http.parts import Parts
from gateway.metrics import Metrics
from gateway.store.api import BODY_HEAD, LogEvent, Page, Snapshot, TaskRow
from gateway.upstream.download import Download
from schemas.event import FINISHED, GATEWAY_SOURCE, SOURCE_SCHEMA, STREAM_SCHEMA, TASK_SCHEMA
from schemas.filter import Filter
from tests.http.hooks import FakeWebhooks

EPOCH = "0123456789ab"
AT = "2025-01-16T11:07:57.954470Z"


def task_data(source: str, task_id: str, status: str = "running", **more: Any) -> dict[str, Any]:
    """`data` of a task event, complete."""
    task = {
        "key": f"{source}/{task_id}", "id": task_id, "source": source, "adapter": "triverse", "kind": "image-to-model",
        "name": None, "status": status, "native_status": status.upper(), "progress": 40, "attempt": 2, "created_at": AT,
        "started_at": None, "completed_at": None, "queue": {"position": 1, "estimated_wait_seconds": None},
        "priority": 0, "cost_credits": 120.0,
    } | more  # fmt: skip
    return {
        "task": task, "changed": [], "detail": None, "input": {"prompt": "ein Fuchs"}, "result": None, "error": None,
        "origin": "live", "redacted": False, "received_at": AT, "native": {"type": "update", "payload": {"a": [1]}},
    }  # fmt: skip


def envelope(kind: str, sequence: int, data: Mapping[str, Any], **more: Any) -> bytes:
    """A whole event; its bytes have spacing of their own, so a test sees when they were encoded anew."""
    head = BODY_HEAD + b'%020d","id":"e%d", "type":"%b",' % (sequence, sequence, kind.encode())
    rest = {"time": AT, "datacontenttype": "application/json", **more, "data": data}
    return head + msgspec.json.encode(rest)[1:]


def task_event(sequence: int, key: str, kind: str = "task.progressed", status: str = "running") -> LogEvent:
    """A task's event as the log has it."""
    source, _, task_id = key.partition("/")
    body = envelope(
        kind, sequence, task_data(source, task_id, status),
        source=f"/triverse/{source}", subject=task_id, dataschema=TASK_SCHEMA, partitionkey=key,
    )  # fmt: skip
    return LogEvent(sequence, f"e{sequence}", kind, source, key, "image-to-model", status, 0.0, body)


def source_event(sequence: int, source: str, kind: str = "source.connected") -> LogEvent:
    """A notice about a source as the log has it."""
    body = envelope(
        kind, sequence, {"source": source, "adapter": "triverse", "endpoint": "/watch/all"},
        source=GATEWAY_SOURCE, subject=source, dataschema=SOURCE_SCHEMA,
    )  # fmt: skip
    return LogEvent(sequence, f"e{sequence}", kind, source, None, None, None, 0.0, body)


def stream_event(kind: str, data: Mapping[str, Any]) -> bytes:
    """A notice of the stream."""
    return envelope(kind, 7, data, source=GATEWAY_SOURCE, dataschema=STREAM_SCHEMA)


def row(key: str, status: str = "running", kind: str = "image-to-model", sequence: int = 0) -> TaskRow:
    """A task's current state."""
    source, _, task_id = key.partition("/")
    state = msgspec.json.encode(task_data(source, task_id, status, kind=kind) | {"origin": "snapshot"})
    return TaskRow(source, task_id, kind, status, status in FINISHED, AT, None, 0.0, state, sequence)


def snapshot_data(task: TaskRow) -> bytes:
    """The state of a fake row is the data itself."""
    return task.state


def redact_data(data: bytes) -> bytes:
    """What the progress view leaves."""
    value = msgspec.json.decode(data)
    value |= {"input": None, "result": None, "error": None, "native": None, "redacted": True}
    value["task"]["attempt"] = None
    return msgspec.json.encode(value)


class FakeStore:
    """The reading side of a log. `failure` is raised by every read; `hold` is waited for."""

    def __init__(self) -> None:
        self.epoch, self.floor, self.trouble = EPOCH, 0, None
        self.events: list[LogEvent] = []
        self.rows: dict[str, TaskRow] = {}
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.trims_to: int | None = None
        self.room = 1_000_000  # events that a page has bytes for

    @property
    def head(self) -> int:
        return self.events[-1].sequence if self.events else self.floor

    async def _begin(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure

    async def read(self, after: int, limit: int, where: Sequence[Filter] = (), upto: int | None = None) -> Page:
        await self._begin()
        matches = [item.compile() for item in where]
        found = [event for event in self.events if event.sequence > max(after, self.floor)]
        found = [event for event in found if upto is None or event.sequence <= upto]
        found = [event for event in found if all(match(event) for match in matches)]
        page = found[: min(limit, self.room)]
        reached = page[-1].sequence if len(page) < len(found) else max(after, self.head if upto is None else upto)
        if self.trims_to is not None:
            self.floor, self.trims_to = self.trims_to, None
        return Page(page, reached)

    async def tasks(self, source: str, ids: Sequence[str]) -> list[TaskRow]:
        await self._begin()
        keys = [f"{source}/{task_id}" for task_id in ids]
        return [self.rows[key] for key in keys if key in self.rows]

    async def snapshot(
        self, where: Sequence[Filter], *, unfinished: bool, limit: int, after: str | None = None
    ) -> Snapshot:
        await self._begin()
        start = "" if after is None else base64.b64decode(after, validate=True).decode()
        matches = [item.without_type().compile() for item in where]
        keys = sorted(key for key in self.rows if key > start)
        rows = [self.rows[key] for key in keys if not (unfinished and self.rows[key].finished)]
        rows = [item for item in rows if all(match(item) for match in matches)]
        more = base64.b64encode(rows[limit - 1].task.encode()).decode() if len(rows) > limit else None
        return Snapshot(self.head, rows[:limit], more)


class FakeKnowledge:
    """An upstream whose task ids start with `t`; its creation responses are `{"id", "kind"}`."""

    def __init__(self, can_watch: bool) -> None:
        self.can_watch = can_watch

    def watch(self, task_id: str) -> Stream | None:
        if not self.can_watch:
            return None
        if not task_id.startswith("t"):
            raise ValueError("is no task id of this upstream")
        return Stream(key=task_id, path=f"/watch/{task_id}", task_id=task_id)

    def created(self, payload: bytes) -> list[Item]:
        value = msgspec.json.decode(payload)
        if not isinstance(value, dict) or "id" not in value:
            return [Rejected("shape", "has no id")]
        return [Observation(task_id=value["id"], native_type="created", payload=msgspec.Raw(b"{}"), kind=value["kind"])]


@dataclass
class FakeSource:
    """A source that remembers what it was asked for. `download` is what it answers."""

    name: str
    adapter: FakeKnowledge
    state: str = "live"
    enabled: bool = True
    watched: dict[str, str] = field(default_factory=dict)
    submitted: list[bytes] = field(default_factory=list)
    download: Download = field(
        default_factory=lambda: Download(
            status=200, body=msgspec.Raw(b'{"download_url":"https://cdn.example/m.glb", "a":1}')
        )
    )

    async def watch(self, task_id: str) -> dict[str, Any]:
        if self.adapter.watch(task_id) is None:
            raise Refused(409, "no_watches", "no single-task watches")
        if self.watched.get(task_id, "finished") == "finished":
            self.watched[task_id] = "connecting"
        return self._watch(task_id)

    async def created(self, payload: bytes) -> dict[str, Any]:
        if b"refuse" in payload:
            raise Refused(422, "not_a_creation", "It is no creation response.")
        self.submitted.append(payload)
        return await self.watch(msgspec.json.decode(payload)["id"])

    async def unwatch(self, task_id: str) -> None:
        if task_id not in self.watched:
            raise Refused(404, "unknown_watch", "There is no such watch.")
        del self.watched[task_id]

    def watches(self) -> list[dict[str, Any]]:
        return [self._watch(task_id) for task_id in self.watched]

    def _watch(self, task_id: str) -> dict[str, Any]:
        return {"source": self.name, "task_id": task_id, "state": self.watched[task_id]}

    async def fetch_download(self, task_id: str) -> Download:
        return self.download


class FakeSources:
    """`studio` and `labs` can watch, `ops` cannot, `off` is not enabled."""

    def __init__(self) -> None:
        self.all = {name: FakeSource(name, FakeKnowledge(name != "ops")) for name in ("studio", "labs", "ops", "off")}
        self.all["off"].enabled, self.all["off"].state = False, "disabled"

    def status(self) -> list[dict[str, Any]]:
        return [
            {
                "name": source.name, "adapter": "triverse", "enabled": source.enabled, "state": source.state,
                "error": "refused: /srv/private",
            }
            for source in self.all.values()
        ]  # fmt: skip

    def watches(self) -> list[dict[str, Any]]:
        return [watch for source in self.all.values() for watch in source.watches()]

    def get(self, name: str) -> FakeSource:
        source = self.all.get(name)
        if source is None:
            raise Refused(404, "unknown_source", "There is no such source.")
        if not source.enabled:
            raise Refused(409, "source_disabled", "It is disabled.")
        return source


class FakeStream:
    """A stream endpoint that does what the test tells it to."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.failure: Exception | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n\n")
        if self.failure is not None:
            raise self.failure
        await response.write_eof()
        return response


#: Token → what it stands for.
GRANTS = {
    "reader": Grant(holder="reader", scopes=frozenset({"events:read"})),
    "progress": Grant(holder="progress", scopes=frozenset({"events:read:progress"})),
    "watcher": Grant(holder="watcher", scopes=frozenset({"watches:write"})),
    "hooks": Grant(holder="hooks", scopes=frozenset({"webhooks:write"})),
    "admin": Grant(holder="admin", scopes=frozenset({"admin"})),
    "nothing": Grant(holder="nothing", scopes=frozenset()),
}


def bounded(scopes: str = "admin", **bounds: Any) -> Grant:
    """A grant with bounds."""
    return Grant(holder="bounded", scopes=frozenset(scopes.split()), bounds=Filter(**bounds))


class FakeAuthenticator:
    """Tokens are names; `open_to_all` is the mode without tokens."""

    def __init__(self) -> None:
        self.grants = dict(GRANTS)
        self.open_to_all = False
        self.failure: Exception | None = None

    async def authenticate(self, token: str | None) -> Grant:
        if self.failure is not None:
            raise self.failure
        if self.open_to_all:
            return self.grants["admin"]
        if token is None or token not in self.grants:
            raise Refused(401, "unauthorized", "A token is needed." if token is None else "The token is not valid.")
        return self.grants[token]


def token_of(request: web.Request) -> str | None:
    """The token of a request."""
    header = request.headers.get("Authorization", "")
    return header.removeprefix("Bearer ") or request.query.get("token")


class FakeClock(SystemClock):
    """A clock that always says the same."""

    def now(self) -> float:
        return 1_000_000.0


@dataclass
class FakeReadiness:
    """What the process says of itself."""

    draining: bool = False
    fallen: list[str] = field(default_factory=list)


class World:
    """All parts, and what was handed to them."""

    def __init__(self, **changes: Any) -> None:
        self.store, self.sources, self.stream = FakeStore(), FakeSources(), FakeStream()
        self.authenticator, self.readiness, self.metrics = FakeAuthenticator(), FakeReadiness(), Metrics()
        self.webhooks, self.clock = FakeWebhooks(), FakeClock()
        self.parts = replace(
            Parts(
                store=self.store,  # type: ignore[arg-type]  # the reading side only
                authenticator=self.authenticator,
                token_of=token_of,
                sources=self.sources,
                stream=self.stream,
                snapshot_data=snapshot_data,
                redact_data=redact_data,
                metrics=self.metrics,
                readiness=self.readiness,
                webhooks=self.webhooks,
                clock=self.clock,
            ),
            **changes,
        )

    def add(self, *rows: TaskRow) -> None:
        """Tasks of the store."""
        self.store.rows.update({item.task: item for item in rows})

    def log(self, *events: LogEvent) -> None:
        """Events of the store."""
        self.store.events.extend(events)
