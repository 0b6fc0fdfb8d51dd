"""A log in memory, events that follow the schema of record, and a gateway that has nothing but the stream."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.access import Grant
from gateway.clock import SystemClock
from gateway.errors import Refused
from gateway.http.problems import problems
from gateway.metrics import Metrics
from gateway.store.api import BODY_HEAD, LogEvent, Page, Snapshot, TaskRow
from gateway.stream.hub import Hub
from gateway.stream.service import StreamService
from gateway.stream.settings import StreamSettings
from schemas.event import FINISHED, SOURCE_SCHEMA, TASK_SCHEMA, TYPE_OF_STATUS
from schemas.filter import Filter

STATUS_OF_TYPE = {kind: status for status, kind in TYPE_OF_STATUS.items()}
TIME = "2026-01-02T03:04:05.000000Z"


def task_data(source: str, task_id: str, status: str, **extra: Any) -> dict[str, Any]:
    """`data` with something in every field that a scope can take away."""
    task = {
        "key": f"{source}/{task_id}", "id": task_id, "source": source, "adapter": "triverse", "kind": "text-to-3d",
        "name": None, "status": status, "native_status": status.upper(), "progress": 50.0, "attempt": 2,
        "created_at": TIME, "started_at": None, "completed_at": None, "queue": None, "priority": 1, "cost_credits": 12.5,
    }  # fmt: skip
    return {
        "task": task,
        "changed": ["status", "progress", "attempt", "input", "result", "error", "detail", "cost_credits"],
        "detail": {"step": "secret-detail"},
        "input": {"prompt": "secret-input"},
        "result": {"url": "secret-result"},
        "error": {"code": 1, "message": "secret-error", "suggestion": None},
        "origin": "live",
        "redacted": False,
        "received_at": TIME,
        "native": {"type": "update", "payload": {"x": "secret-native"}},
        **extra,
    }


def event(sequence: int, kind: str, task: str | None = "studio/1", *, pad: int = 0, source: str = "studio") -> LogEvent:
    """An event of the log; `pad` adds bytes to its input."""
    head = {"specversion": "1.0", "sequence": f"{sequence:020d}", "id": f"e{sequence}"}
    rest: dict[str, Any]
    if task is None:
        rest = {
            "source": "/mainstem", "type": kind, "subject": source, "time": TIME, "datacontenttype": "application/json",
            "dataschema": SOURCE_SCHEMA, "data": {"source": source, "adapter": "triverse"},
        }  # fmt: skip
        status = None
    else:
        source, _, task_id = task.partition("/")
        status = STATUS_OF_TYPE.get(kind, "running")
        data = task_data(source, task_id, status)
        data["input"]["pad"] = "x" * pad
        rest = {
            "source": f"/triverse/{source}", "type": kind, "subject": task_id, "time": TIME,
            "datacontenttype": "application/json", "dataschema": TASK_SCHEMA, "partitionkey": task, "data": data,
        }  # fmt: skip
    body = json.dumps(head | rest, separators=(",", ":")).encode()
    assert body.startswith(BODY_HEAD)
    return LogEvent(
        sequence, f"e{sequence}", kind, source, task, None if task is None else "text-to-3d", status, 0.0, body
    )


class FakeStore:
    """The parts of `gateway.store.api.Store` that the stream uses."""

    def __init__(self) -> None:
        self.epoch = "abcdef012345"
        self.floor = 0
        self.events: list[LogEvent] = []
        self.rows: dict[str, TaskRow] = {}
        self.reads = 0
        self.page: int | None = None
        self.between_pages: Any = None
        self.broken: Exception | None = None
        self.room = 1_000_000  # events that a page has bytes for

    @property
    def head(self) -> int:
        return self.events[-1].sequence if self.events else self.floor

    def append(self, kind: str, task: str | None = "studio/1", *, pad: int = 0, source: str = "studio") -> LogEvent:
        """Commits an event."""
        made = event(self.head + 1, kind, task, pad=pad, source=source)
        self.events.append(made)
        if made.task is not None and made.source is not None:
            status = made.status or "unknown"
            self.rows[made.task] = TaskRow(
                made.source, made.task.partition("/")[2], made.kind, status, status in FINISHED, TIME, None, 0.0,
                b"", made.sequence,
            )  # fmt: skip
        return made

    def trim(self, upto: int) -> None:
        """Retention."""
        self.events = [item for item in self.events if item.sequence > upto]
        self.floor = max(self.floor, upto)

    async def read(self, after: int, limit: int, where: Sequence[Filter] = (), upto: int | None = None) -> Page:
        self.reads += 1
        await asyncio.sleep(0)
        if self.broken:
            raise self.broken
        tests = [item.compile() for item in where]
        found = [
            item
            for item in self.events
            if item.sequence > after and (upto is None or item.sequence <= upto) and all(test(item) for test in tests)
        ]
        page = found[: min(limit, self.room)]
        reached = page[-1].sequence if len(page) < len(found) else max(after, self.head if upto is None else upto)
        return Page(page, reached)

    async def snapshot(
        self, where: Sequence[Filter], *, unfinished: bool, limit: int, after: str | None = None
    ) -> Snapshot:
        await asyncio.sleep(0)
        if self.broken:
            raise self.broken
        if after is not None and self.between_pages is not None:
            self.between_pages()
        tests = [item.without_type().compile() for item in where]
        keys = sorted(key for key in self.rows if after is None or key > after)
        rows = [self.rows[key] for key in keys]
        rows = [row for row in rows if not (unfinished and row.finished) and all(test(row) for test in tests)]
        limit = self.page or limit
        return Snapshot(self.head, list(rows[:limit]), rows[limit - 1].task if len(rows) > limit else None)


def snapshot_data(row: TaskRow) -> bytes:
    """What the pipeline does in the whole gateway."""
    return json.dumps(
        task_data(row.source, row.id, row.status, origin="snapshot", changed=[], detail=None),
        separators=(",", ":"),
    ).encode()


class FakeAuthenticator:
    """Tokens by name; `None` as a key makes a token optional."""

    def __init__(self) -> None:
        self.asked = False
        self.grants: dict[str | None, Grant] = {
            "full": Grant(holder="full", scopes=frozenset({"events:read"})),
            "progress": Grant(holder="progress", scopes=frozenset({"events:read:progress"})),
            "admin": Grant(holder="admin", scopes=frozenset({"admin"})),
            "other": Grant(holder="other", scopes=frozenset({"webhooks:write"})),
            "bounded": Grant(holder="bounded", scopes=frozenset({"events:read"}), bounds=Filter(source=("studio",))),
        }

    async def authenticate(self, token: str | None) -> Grant:
        self.asked = True
        grant = self.grants.get(token)
        if grant is None:
            raise Refused(401, "missing_token" if token is None else "bad_token", "The token is not valid.")
        return grant


class House:
    """A running stream over a fake log."""

    def __init__(
        self, store: FakeStore, hub: Hub, service: StreamService, server: TestServer, tokens: FakeAuthenticator
    ) -> None:
        self.store = store
        self.hub = hub
        self.service = service
        self.server = server
        self.tokens = tokens
        self.metrics = service._metrics

    def url(self, query: str = "", scheme: str = "ws") -> str:
        """The stream's URL."""
        return f"{scheme}://127.0.0.1:{self.server.port}/v1/stream?{query}"

    def publish(self, kind: str, task: str | None = "studio/1", *, pad: int = 0, source: str = "studio") -> LogEvent:
        """Commits an event and shows it."""
        made = self.store.append(kind, task, pad=pad, source=source)
        self.hub.publish([made])
        return made

    def publish_many(self, kinds: Sequence[tuple[str, str]], *, pad: int = 0) -> list[LogEvent]:
        """Commits events together."""
        made = [self.store.append(kind, task, pad=pad) for kind, task in kinds]
        self.hub.publish(made)
        return made

    async def until_empty(self) -> None:
        """Waits until nobody is connected."""
        async with asyncio.timeout(10):
            await self.service._empty.wait()


@asynccontextmanager
async def house(
    store: FakeStore | None = None,
    *,
    ring_bytes: int = 1 << 20,
    open_door: bool = True,
    permits: Any = None,
    **settings: Any,
) -> AsyncIterator[House]:
    """A gateway that is only the stream; without tokens unless the door is shut."""
    store = store or FakeStore()
    metrics = Metrics()
    hub = Hub(store, SystemClock(), metrics, ring_bytes=ring_bytes)  # type: ignore[arg-type]
    tokens = FakeAuthenticator()
    if open_door:
        tokens.grants[None] = tokens.grants["admin"]
    service = StreamService(
        store=store,  # type: ignore[arg-type]
        hub=hub,
        authenticator=tokens,
        token_of=lambda request: request.query.get("token"),
        snapshot_data=snapshot_data,
        clock=SystemClock(),
        rng=random.Random(1),
        metrics=metrics,
        settings=StreamSettings(**{"sweep": 0.02, "grace": 0.5, **settings}),
        permits=permits,
    )
    app = web.Application(middlewares=[problems])
    app.router.add_get("/v1/stream", service.handle)
    server = TestServer(app)
    await service.start()
    await server.start_server()
    try:
        yield House(store, hub, service, server, tokens)
    finally:
        await service.close()
        await server.close()
