"""Catalyst as its document describes it: lists of task events every few seconds, errors before a *normal* close.

Source: `catalyst-task-events`; one-time UUIDs and the discarded buffer from the field's later pages. Where the document is
silent: no frame is sent when nothing happened.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from itertools import islice
from typing import Any, Literal

from aiohttp import web

from gateway.simulators import timestamps
from gateway.simulators.connection import Connection
from gateway.simulators.population import Happening, Plan, case
from gateway.simulators.server import HANDSHAKE, Simulator, encode
from gateway.simulators.settings import Settings

LIMIT = 1_000
"""Events in one frame, at most."""

BUFFER = 100_000
"""Events that wait for one connection, at most; one with more is cut off."""

ISSUED = 1_000
"""One-time UUIDs that wait to be used, at most; the oldest is forgotten."""

EVENTS = (
    "task_created",
    "task_value_changed",
    "task_status_changed",
    "task_owner_added",
    "task_owner_removed",
    "task_assignee_added",
    "task_assignee_removed",
    "task_deleted",
)

ErrorCode = Literal["ERR_INCORRECT_URL", "ERR_INVALID_UUID", "RECEIVE_NOT_SUPPORTED", "ERR_RATE_LIMIT_EXCEEDED"]
ERRORS: dict[str, str] = {
    "ERR_INCORRECT_URL": "Incorrect WebSocket URL.",
    "ERR_INVALID_UUID": "A valid UUID is required.",
    "RECEIVE_NOT_SUPPORTED": "This WebSocket connection does not support receiving messages.",
    "ERR_RATE_LIMIT_EXCEEDED": "The rate limit for requests has been exceeded. Please wait before trying again.",
}


class Catalyst(Simulator):
    """A simulated Catalyst.

    Credentials: `uuid` (mode `fixed`), `api_key` and `auth_path` (both modes: the endpoint works in either).

    Args:
        settings: what every simulator has.
        mode: `fixed`: one UUID, good for ever; `one_time`: each from the authentication endpoint, good for one connect.
        interval: seconds between two frames; None sends only when `deliver` is called.
        connects_per_minute: more are answered with ERR_RATE_LIMIT_EXCEEDED; None for no limit.
        limit: events in one frame, at most.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        mode: Literal["fixed", "one_time"] = "fixed",
        interval: float | None = 5.0,
        connects_per_minute: int | None = None,
        limit: int = LIMIT,
    ) -> None:
        super().__init__(settings)
        self.mode = mode
        self.interval = interval
        self.connects_per_minute = connects_per_minute
        self.limit = limit
        self.credentials = {
            "uuid": str(uuid.UUID(int=self.secrets.getrandbits(128), version=4)),
            "api_key": f"cat_{self.secrets.getrandbits(128):032x}",
            "auth_path": "/api/users/ws-auth/",
        }
        self._issued: dict[str, None] = {}
        self._connects: deque[float] = deque(maxlen=(connects_per_minute or 0) + 1)
        self._errors: deque[ErrorCode] = deque()
        self._waiting: dict[Connection, deque[dict[str, Any]]] = {}
        self._lives: dict[int, tuple[int, int]] = {}
        self._last_id = 0

    # The script

    def push_event(
        self,
        task_id: int,
        event: str,
        *,
        object_class_id: int = 1,
        at: float | None = None,
    ) -> dict[str, Any]:
        """Something changed: the event waits for the next frame of every connection.

        Args:
            task_id: of which task; any number will do.
            event: one of `EVENTS`, or any other word.
            object_class_id: the task's object class.
            at: its timestamp, seconds since 1970; by default now.
        """
        item = {
            "task_id": task_id,
            "object_class_id": object_class_id,
            "event": event,
            "timestamp": timestamps.offset(self.clock.now() if at is None else at),
        }
        for connection, waiting in self._waiting.items():
            if len(waiting) >= BUFFER:
                connection.abort()
            else:
                waiting.append(item)
        return item

    def deliver(self) -> None:
        """Sends each connection the next frame of what waits for it, as the passing of the interval does."""
        for connection, waiting in self._waiting.items():
            if not waiting:
                continue
            if len(waiting) > self.limit:
                # "Where results are chunked, events are ordered in ascending order by event timestamp."
                ordered = sorted(waiting, key=lambda item: str(item["timestamp"]))
                waiting.clear()
                waiting.extend(ordered)
            batch = list(islice(waiting, self.limit))
            for _ in batch:
                waiting.popleft()
            connection.send(encode(batch))

    def waiting(self, connection: Connection) -> int:
        """How many events wait for a connection."""
        return len(self._waiting.get(connection, ()))

    def push_error(self, code: ErrorCode, connection: Connection | None = None) -> None:
        """One connection, or all, get the error and the close that follows it."""
        for each in list(self.connections) if connection is None else [connection]:
            _refuse(each, code)

    def answer_connects(self, code: ErrorCode, count: int = 1) -> None:
        """The next connects are accepted, told this error, and closed with 1000."""
        self._errors.extend([code] * count)

    # Endpoints

    def plan(self) -> Plan:
        return case

    def routes(self) -> Collection[web.RouteDef]:
        return [
            web.get("/ws/events/tasks/", self._tasks),
            web.get("/api/users/ws-auth/", self._authenticate),
            web.get("/{path:.*}", self._elsewhere),
        ]

    async def _tasks(self, request: web.Request) -> web.StreamResponse:
        error = self._objection(request.query.get("uuid", ""))

        def greet(connection: Connection) -> None:
            if error is None:
                self._waiting[connection] = deque()
            else:
                _refuse(connection, error)

        return await self.serve(request, "tasks" if error is None else "refused", greet)

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        if HANDSHAKE not in request:
            return web.json_response({"detail": "Not found."}, status=404)
        return await self.serve(request, "refused", lambda connection: _refuse(connection, "ERR_INCORRECT_URL"))

    async def _authenticate(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.credentials['api_key']}":
            return web.json_response({"detail": "Authentication credentials were not provided."}, status=401)
        issued = str(uuid.UUID(int=self.secrets.getrandbits(128), version=4))
        self._issued[issued] = None
        if len(self._issued) > ISSUED:
            del self._issued[next(iter(self._issued))]
        return web.json_response({"uuid": issued})

    def _objection(self, given: str) -> ErrorCode | None:
        if self._errors:
            return self._errors.popleft()
        if self.connects_per_minute is not None:
            now = self.clock.monotonic()
            self._connects.append(now)
            if len(self._connects) > self.connects_per_minute and now - self._connects[0] < 60.0:
                return "ERR_RATE_LIMIT_EXCEEDED"
        if given in self._issued:
            del self._issued[given]
            return None
        fixed = self.mode == "fixed" and given == self.credentials["uuid"]
        return None if fixed else "ERR_INVALID_UUID"

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        super().on_message(connection, message)
        _refuse(connection, "RECEIVE_NOT_SUPPORTED")

    def on_closed(self, connection: Connection) -> None:
        super().on_closed(connection)
        self._waiting.pop(connection, None)  # what still waited is discarded; a reconnect starts empty

    # Lives

    def background(self) -> list[Callable[[], Awaitable[None]]]:
        return [] if self.interval is None else [self._turn]

    async def _turn(self) -> None:
        if self.interval is not None:
            await self.clock.sleep(self.interval)
        self.deliver()

    def happened(self, happening: Happening) -> None:
        kind = happening.step.kind
        if kind == "task_created":
            self._last_id += 1
            self._lives[happening.task] = (self._last_id, 1 + int(self.chance.random() * 5))
        task_id, object_class_id = self._lives[happening.task]
        # The document's own sample has a status change stamped 20 ms before the creation that it follows.
        at = happening.at - 0.03 * self.chance.random()
        self.push_event(task_id, kind, object_class_id=object_class_id, at=at)
        if kind == "task_deleted":
            del self._lives[happening.task]


def _refuse(connection: Connection, code: ErrorCode) -> None:
    connection.send_raw(encode({"type": "error", "error_code": code, "detail": ERRORS[code]}).decode())
    connection.close(1000)
