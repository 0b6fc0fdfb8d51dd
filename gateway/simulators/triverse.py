"""Triverse as its documents describe it: tasks watched over WebSockets whose text frames contain Server-Sent Events.

Sources: `triverse-websockets` (endpoints, frames, `since`), `triverse-task-status` (payload, lifecycle, REST),
`triverse-common-structures` (envelope, creation, FlowStatusPayload, download). Where they are silent: a single-task watch
starts with the current state (option `initial`), and a finished task says so with `finalized` in a catch-up as well.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import msgspec
from aiohttp import web

from gateway.simulators import timestamps
from gateway.simulators.connection import Connection
from gateway.simulators.population import Happening, Plan, generation
from gateway.simulators.server import Simulator, encode
from gateway.simulators.settings import Settings

Status = Literal["PENDING", "QUEUED", "RUNNING", "SUCCESS", "FAILED", "CANCELLED"]
TERMINAL = frozenset({"SUCCESS", "FAILED", "CANCELLED"})
FLOWS = ("image-to-model", "multiview-to-model", "text-to-model", "text-to-texture", "texture-model")
ASSETS = "https://assets.triverse.example/tasks"

# What the public API documents as never exposed; `internal_fields` exposes it, to see that nobody relays it.
INTERNAL: dict[str, Any] = {
    "user_id": "usr_internal_1",
    "flow_run_id": "run_internal_1",
    "is_terminal": False,
    "changed": True,
    "raw_prefect_state": "Running(internal)",
    "status_detail": "internal detail",
    "work_queue_name": "gpu-internal",
    "deployment_id": "dep_internal_1",
    "pricing_snapshot": {"internal": 1},
    "analytics": {"campaign": "internal"},
}

# Numeric code: HTTP status, message, suggestion.
ERRORS: dict[int, tuple[int, str, str]] = {
    401: (401, "Unauthorized.", "Provide a valid API key."),
    1004: (400, "Invalid parameters.", "Check the parameters of the request."),
    1005: (404, "Resource not found.", "Check the identifier."),
    1006: (404, "Task not found.", "Check the task UUID."),
    2000: (429, "Rate limit exceeded or task queue full.", "Wait a while and try again."),
    2005: (409, "Conflict with the state of the task.", "Wait until the task has finished."),
    2008: (400, "The content violates the policy.", "Use other content."),
    2010: (403, "Insufficient credits.", "Top up the account."),
    4042: (404, "The task has no assets.", "Only successful tasks have assets."),
    5003: (503, "Service unavailable.", "Try again later."),
    5004: (500, "Invalid flow.", "Contact support."),
    5005: (500, "The task state could not be stored.", "Try again later."),
}

FAILURES: tuple[dict[str, Any], ...] = (
    {
        "code": "GENERATION_FAILED",
        "message": "Mesh reconstruction did not converge.",
        "suggestion": "Use a clearer image.",
    },
    {"code": "CONTENT_VIOLATION", "message": "The input failed the safety audit.", "suggestion": "Use other content."},
    {"code": "WORKER_LOST", "message": "The worker stopped responding."},
)


@dataclass(slots=True)
class Task:
    """A generation task. Instants are seconds since 1970; `extra` is added to every payload as it is."""

    uuid: str
    token: str
    flow_name: str
    created_at: float
    input: dict[str, Any] | None
    status: Status = "PENDING"
    progress: int = 0
    started_at: float | None = None
    completed_at: float | None = None
    output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    queue: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


CHANGEABLE = frozenset(each.name for each in fields(Task)) - {"uuid", "token"}


class Triverse(Simulator):
    """A simulated Triverse.

    Credentials: `token` owns the population's tasks; `other_token` is another customer's key, with no tasks.

    Args:
        settings: what every simulator has.
        shape: the payload: `public` (snake_case) or `flow` (camelCase FlowStatusPayload, without progress).
        enveloped: WebSocket payloads inside `{code, message, data}`; REST answers always are.
        terminator: what follows the data line. Two line feeds end an event by the rules of SSE; the documents' sample
            shows none.
        initial: whether a single-task watch starts with the current state.
        update_before_finalized: whether reaching a terminal status is an `update` as well as `finalized`.
        internal_fields: leaks the fields that the documents call internal.
        creation: the creation payload: `documented`, or `newer` (`cost_credits` and `queue`, no `input`).
        rest: without it, task status and download answer 503 (creation stays).
        lives: whether a task created over HTTP lives by itself or waits for the script.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        shape: Literal["public", "flow"] = "public",
        enveloped: bool = False,
        terminator: str = "\n\n",
        initial: bool = True,
        update_before_finalized: bool = True,
        internal_fields: bool = False,
        creation: Literal["documented", "newer"] = "documented",
        rest: bool = True,
        lives: bool = True,
    ) -> None:
        super().__init__(settings)
        self.shape = shape
        self.enveloped = enveloped
        self.terminator = terminator.encode()
        self.initial = initial
        self.update_before_finalized = update_before_finalized
        self.internal_fields = internal_fields
        self.creation = creation
        self.rest = rest
        self.lives = lives
        self.tasks: dict[str, Task] = {}
        self._lives: dict[int, str] = {}
        self._finished: deque[tuple[float, str]] = deque()
        self.credentials = {
            "token": f"tv_{self.secrets.getrandbits(128):032x}",
            "other_token": f"tv_{self.secrets.getrandbits(128):032x}",
        }
        self._tokens = frozenset(self.credentials.values())

    # The script

    def create_task(
        self,
        *,
        task_uuid: str | None = None,
        token: str | None = None,
        flow_name: str = "image-to-model",
        created_at: float | None = None,
        input: dict[str, Any] | None = None,
        announce: bool = True,
        **state: Any,
    ) -> Task:
        """A task comes into being, PENDING unless `state` says otherwise. `announce` sends its first frame."""
        task = self._create(
            uuid.UUID(task_uuid) if task_uuid else self._uuid(),
            token or self.credentials["token"],
            flow_name,
            self.clock.now() if created_at is None else created_at,
            input,
        )
        self.push_state(task.uuid, announce=announce, **state)
        return task

    def push_state(
        self,
        task_uuid: str,
        *,
        announce: bool = True,
        event: Literal["update", "finalized"] | None = None,
        at: float | None = None,
        **changes: Any,
    ) -> Task:
        """Changes a task and tells those who watch.

        Args:
            task_uuid: which.
            announce: False changes it behind everybody's back.
            event: the frame to send; by default `update`, and `finalized` when the status is terminal.
            at: when, seconds since 1970; by default now. Becomes `started_at` and `completed_at` where due.
            changes: any of `status`, `progress`, `started_at`, `completed_at`, `input`, `output`, `error`, `queue`,
                `flow_name`, `created_at`, `extra`.

        Raises:
            KeyError: no such task.
            TypeError: no such field.
        """
        task = self.tasks[task_uuid]
        if unknown := changes.keys() - CHANGEABLE:
            raise TypeError(f"a task has no {', '.join(sorted(unknown))}")
        now = self.clock.now() if at is None else at
        for name, value in changes.items():
            setattr(task, name, value)
        if task.status == "RUNNING" and task.started_at is None:
            task.started_at = now
        if task.status not in TERMINAL:
            task.completed_at = changes.get("completed_at")
        elif task.completed_at is None:
            task.completed_at = now
            self._finished.append((self.clock.now(), task.uuid))
            self._forget()
        if announce:
            self._announce(task, event)
        return task

    # Endpoints

    def plan(self) -> Plan:
        return generation

    def routes(self) -> Collection[web.RouteDef]:
        flows = "|".join(FLOWS)
        return [
            web.get("/api/v1/tasks/watch/all", self._watch_all),
            web.get("/api/v1/tasks/watch/{uuid}", self._watch_one),
            web.get("/api/v1/tasks/url/{uuid}", self._download),
            web.get("/api/v1/tasks/{uuid}", self._status),
            web.post(f"/api/v1/tasks/{{flow:{flows}}}", self._creation),
        ]

    async def _watch_all(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token", "")
        if token not in self._tokens:
            return _error(401)
        since: int | None = None
        if "since" in request.query:
            try:
                since = timestamps.whole(timestamps.parse(request.query["since"]))
            except ValueError:
                return _error(1004)

        def greet(connection: Connection) -> None:
            if since is None:
                return
            for task in self.tasks.values():
                if task.token == token and timestamps.whole(task.created_at) > since:
                    connection.send(self._frame(task, _event(task)))

        return await self.serve(request, ("all", token), greet)

    async def _watch_one(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token", "")
        if token not in self._tokens:
            return _error(401)
        task = self.tasks.get(request.match_info["uuid"])
        if task is None or task.token != token:
            return _error(1006)

        def greet(connection: Connection) -> None:
            if self.initial:
                connection.send(self._frame(task, _event(task)))
                if task.status in TERMINAL:
                    connection.close(1000)

        return await self.serve(request, ("task", task.uuid), greet)

    async def _status(self, request: web.Request) -> web.Response:
        found = self._asked(request)
        return found if isinstance(found, web.Response) else _success(self._payload(found))

    async def _download(self, request: web.Request) -> web.Response:
        found = self._asked(request)
        if isinstance(found, web.Response):
            return found
        if found.status not in TERMINAL:
            return _error(2005)
        output = found.output or {}
        models = output.get("textured_model_url") or output.get("geometry_model_url")
        if found.status != "SUCCESS" or not models:
            return _error(4042)
        asset = uuid.uuid5(uuid.NAMESPACE_URL, models[0])
        return _success(
            {
                "download_url": models[0],
                "preview_url": output.get("preview_url"),
                "asset_id": str(asset),
                "kind": "model",
            }
        )

    async def _creation(self, request: web.Request) -> web.Response:
        token = self._bearer(request)
        if token is None:
            return _error(401)
        try:
            body = msgspec.json.decode(await request.read())
        except msgspec.DecodeError:
            return _error(1004)
        if not isinstance(body, dict) or not any(isinstance(value, str) and value for value in body.values()):
            return _error(1004)
        if self.population.full:
            return _error(2000)
        now = self.clock.now()
        task = self._create(self._uuid(), token, request.match_info["flow"], now, body)
        if self.lives:
            self._lives[self.admit()] = task.uuid
        self._announce(task, None)
        payload: dict[str, Any] = {
            "task_uuid": task.uuid,
            "name": f"{task.flow_name}-{task.uuid[:8]}",
            "created_at": timestamps.micros(task.created_at),
            "is_public": True,
            "task_priority": 0,
            "status": task.status,
            "flow_name": task.flow_name,
            "input": task.input,
            "costCredits": 120,
        }
        if self.creation == "newer":
            payload = {key: payload[key] for key in ("task_uuid", "flow_name", "status", "created_at")}
            payload |= {"cost_credits": 120, "queue": _queue(None)}
        return _success(payload)

    def _bearer(self, request: web.Request) -> str | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" and token in self._tokens else None

    def _asked(self, request: web.Request) -> Task | web.Response:
        if not self.rest:
            return _error(5003)
        token = self._bearer(request)
        if token is None:
            return _error(401)
        task = self.tasks.get(request.match_info["uuid"])
        return _error(1006) if task is None or task.token != token else task

    # Lives

    def happened(self, happening: Happening) -> None:
        step, at = happening.step, happening.at
        if step.kind == "created":
            flow = FLOWS[min(int(self.chance.random() ** 2 * len(FLOWS)), len(FLOWS) - 1)]
            task = self._create(self._uuid(), self.credentials["token"], flow, at, None)
            self._lives[happening.task] = task.uuid
            self._announce(task, None)
            return
        found = self._lives.get(happening.task)
        if found is None or found not in self.tasks:
            return
        task, changes = self.tasks[found], dict[str, Any]()
        match step.kind:
            case "queued" | "requeued":
                changes = {"status": "QUEUED", "progress": 0, "output": None, "queue": _queue(step.position)}
            case "started":
                changes = {"status": "RUNNING", "progress": 0, "queue": _queue(None)}
            case "progressed":
                percent = step.percent or 0
                changes = {"progress": percent, "output": self._halfway(task, percent)}
            case "succeeded":
                changes = {"status": "SUCCESS", "progress": 100, "output": self._output(task), "queue": None}
            case "failed":
                failure = FAILURES[int(self.chance.random() * len(FAILURES))]
                changes = {"status": "FAILED", "error": failure, "output": None, "queue": None}
            case "cancelled":
                changes = {"status": "CANCELLED", "output": None, "queue": None}
        self.push_state(task.uuid, at=at, **changes)
        if task.status in TERMINAL:
            del self._lives[happening.task]

    def _create(self, id: uuid.UUID, token: str, flow: str, at: float, input: dict[str, Any] | None) -> Task:
        if input is None:
            prompt = (
                {"prompt": "a brass compass"} if flow.startswith("text-") else {"image_url": f"{ASSETS}/{id}/input.png"}
            )
            input = {**prompt, "model_version": "v2", "polygon_limit": 1_000_000, "texture_size": 1024}
        task = self.tasks[str(id)] = Task(str(id), token, flow, at, input)
        return task

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.chance.getrandbits(128), version=4)

    def _forget(self) -> None:
        oldest = self.clock.now() - self.settings.retain
        while self._finished and (self._finished[0][0] < oldest or len(self._finished) > self.settings.most):
            finished = self.tasks.get(self._finished.popleft()[1])
            if finished is not None and finished.status in TERMINAL:
                del self.tasks[finished.uuid]

    def _halfway(self, task: Task, percent: int) -> dict[str, Any] | None:
        if self.shape == "public":
            return None  # the documents' RUNNING sample has no output
        done = percent >= 50
        return {
            "geometry_job_status": "COMPLETED" if done else "IN_PROGRESS",
            "texture_job_status": "IN_PROGRESS" if done else "PENDING",
            "preprocessed_image_url": [f"{ASSETS}/{task.uuid}/preprocessed_input_image_0.png"],
            "geometry_model_url": [f"{ASSETS}/{task.uuid}/textureless_model_0.glb"] if done else None,
            "textured_model_url": None,
        }

    def _output(self, task: Task) -> dict[str, Any]:
        # Flows that only paint an existing model produce no geometry; any of the three may be null.
        output: dict[str, Any] = {
            "geometry_model_url": [f"{ASSETS}/{task.uuid}/geometry.glb"]
            if task.flow_name.endswith("-to-model")
            else None,
            "textured_model_url": [f"{ASSETS}/{task.uuid}/textured.glb"],
            "preview_url": f"{ASSETS}/{task.uuid}/preview.png" if self.chance.random() < 0.9 else None,
        }
        if self.shape == "flow":
            output |= {"geometry_job_status": "COMPLETED", "texture_job_status": "COMPLETED"}
        return output

    # Frames

    def _announce(self, task: Task, event: str | None) -> None:
        one, everything = self.subscribers(("task", task.uuid)), self.subscribers(("all", task.token))
        finished = task.status in TERMINAL
        events = [event] if event else ["update"] if not finished else ["update", "finalized"]
        if finished and event is None and not self.update_before_finalized:
            events = ["finalized"]
        if not one and not everything:
            return
        for each in events:
            frame = self._frame(task, each)
            for connection in (*one, *everything):
                connection.send(frame)
        if "finalized" in events:
            for connection in one:
                connection.close(1000)

    def _frame(self, task: Task, event: str) -> bytes:
        payload = self._payload(task)
        if self.internal_fields:
            payload |= {_camel(key): value for key, value in INTERNAL.items()} if self.shape == "flow" else INTERNAL
        data = {"code": 0, "message": "success", "data": payload} if self.enveloped else payload
        return b"event: " + event.encode() + b"\ndata: " + encode(data) + self.terminator

    def _payload(self, task: Task) -> dict[str, Any]:
        if self.shape == "flow":
            return {
                "flowName": task.flow_name,
                "taskId": task.uuid,
                "status": task.status,
                "input": task.input,
                "output": task.output,
                "createTime": timestamps.micros(task.created_at),
                **task.extra,
            }
        return {
            "task_uuid": task.uuid,
            "flow_name": task.flow_name,
            "status": task.status,
            "progress": task.progress,
            "created_at": timestamps.micros(task.created_at),
            "started_at": None if task.started_at is None else timestamps.micros(task.started_at),
            "completed_at": None if task.completed_at is None else timestamps.micros(task.completed_at),
            "input": task.input,
            "output": task.output,
            "error": task.error,
            "queue": task.queue,
            **task.extra,
        }


def _event(task: Task) -> str:
    return "finalized" if task.status in TERMINAL else "update"


def _queue(position: int | None) -> dict[str, Any]:
    return {
        "is_queued": position is not None,
        "position": position,
        "estimated_wait_seconds": None if position is None else 15 * position,
    }


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def _success(data: dict[str, Any]) -> web.Response:
    return web.Response(body=encode({"code": 0, "message": "success", "data": data}), content_type="application/json")


def _error(code: int) -> web.Response:
    status, message, suggestion = ERRORS[code]
    body = encode({"code": code, "message": message, "suggestion": suggestion})
    return web.Response(status=status, body=body, content_type="application/json")
