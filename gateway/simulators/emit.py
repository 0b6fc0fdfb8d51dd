"""emit.run as its document describes it: a stream per job and a stream per space, cut down to what a token may see.

Source: `emit-websockets`. The edition `newer` adds what later public pages describe: REST, `connected` with `seq`,
`scheduled`, `killed`, custom events, and streams without a token. Where the document is silent: a job's creation sends
nothing on the space stream, since none of the nine types says it (the newer edition sends `created`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import msgspec
from aiohttp import web

from gateway.simulators import timestamps
from gateway.simulators.connection import Connection
from gateway.simulators.population import Happening, Plan, Step, job
from gateway.simulators.server import Simulator, encode
from gateway.simulators.settings import Settings

READ = "jobs:read"
PROGRESS = "jobs:read:progress"
CREATE = "jobs:create"
SCOPES = frozenset({READ, PROGRESS, CREATE})

# Event type: the status of the job after it; None leaves it.
STATUS_AFTER: dict[str, str | None] = {
    "created": None,
    "pending": "pending",
    "delivered": "delivered",
    "acked": "running",
    "progress": "running",
    "checkpoint": "running",
    "completed": "completed",
    "retried": "pending",
    "dead": "dead",
    "delivery_timeout": "pending",
    "killed": "killed",
}
NEVER_DATA = frozenset({"init", "delivered", "acked", "delivery_timeout"})
TERMINAL = frozenset({"completed", "dead", "killed"})
STATUSES = ("scheduled", "pending", "delivered", "running", "completed", "dead", "killed")
NAMES = ("process-video", "generate-report", "send-email", "import-orders")
STAGES = ("downloading", "decoding", "encoding", "uploading")
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
HISTORY = 200


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token may: scopes, in one space or (None) in all."""

    scopes: frozenset[str]
    space: str | None

    @property
    def full(self) -> bool:
        """Whether events come whole."""
        return READ in self.scopes

    def covers(self, space: str) -> bool:
        """Whether the token reaches into that space."""
        return self.space is None or self.space == space


@dataclass(slots=True)
class Job:
    """A job. Instants are seconds since 1970."""

    id: str
    space: str
    name: str
    payload: dict[str, Any] | None
    status: str
    created_at: float
    updated_at: float
    max_retries: int = 3
    attempt: int = 0
    timeout_seconds: int = 300
    delivered_at: float | None = None
    started_at: float | None = None
    completed_at: float | None = None
    result: Any = None
    progress: Any = None
    history: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=HISTORY))


class Emit(Simulator):
    """A simulated emit.run.

    Credentials: `spaces` (ids); `tokens`, scope to token, for the first space; `space_tokens`, the same per space;
    `token`, `jobs:read` in every space; `producer_key`, `jobs:create` in every space.

    Args:
        settings: what every simulator has.
        edition: `documented`, or `newer` with what later public pages add.
        stripped: what becomes of `data` that a token may not see: `null`, or `missing`.
        spaces: how many spaces there are; the population's jobs are spread over them.
        job_name: whether events of a job stream carry `jobName`; the document says both.
        lives: whether a job created over HTTP lives by itself or waits for the script.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        edition: Literal["documented", "newer"] = "documented",
        stripped: Literal["null", "missing"] = "null",
        spaces: int = 2,
        job_name: bool = True,
        lives: bool = True,
    ) -> None:
        self.edition = edition
        super().__init__(settings)
        self.stripped = stripped
        self.job_name = job_name
        self.lives = lives
        self.jobs: dict[str, Job] = {}
        self._lives: dict[int, str] = {}
        self._finished: deque[tuple[float, str]] = deque()
        self._tokens: dict[str, Grant] = {}
        ids = [self._ulid(1_700_000_000.0 + number) for number in range(spaces)]
        self._seq = dict.fromkeys(ids, 0)
        self._counted = {space: Counter[str]() for space in ids}
        self._instance = self._ulid(settings.clock.now())
        by_space = {space: {scope: self.add_token(scope, space=space) for scope in (READ, PROGRESS)} for space in ids}
        self.credentials = {
            "spaces": ids,
            "space_tokens": by_space,
            "tokens": by_space[ids[0]],
            "token": self.add_token(READ),
            "producer_key": self.add_token(CREATE),
        }

    # The script

    def add_token(self, *scopes: str, space: str | None = None) -> str:
        """A new token with these scopes, bound to a space or to none."""
        token = f"emit_{self.secrets.getrandbits(128):032x}"
        self._tokens[token] = Grant(frozenset(scopes), space)
        return token

    def create_job(
        self,
        name: str = "process-video",
        *,
        id: str | None = None,
        space: str | None = None,
        payload: dict[str, Any] | None = None,
        status: str = "pending",
        at: float | None = None,
        **fields: Any,
    ) -> Job:
        """A job comes into being. `fields`: any other of `Job`."""
        now = self.clock.now() if at is None else at
        created = Job(
            id or self._ulid(now), space or self.credentials["spaces"][0], name, payload, status, now, now, **fields
        )
        self.jobs[created.id] = created
        self._counted[created.space][status] += 1
        self._record(created, "created", None, now)
        if self.edition == "newer":
            self._announce(created, "created", None, now)
        return created

    def push(
        self,
        job_id: str,
        type: str,
        data: Any = None,
        *,
        status: str | None = None,
        at: float | None = None,
        announce: bool = True,
    ) -> Job:
        """An event happens to a job: its status changes and those who watch are told.

        Args:
            job_id: which.
            type: one of the nine documented types, or any other.
            data: the event's data; None sends no `data` key.
            status: the status after it; by default the documented one of the type.
            at: when, seconds since 1970; by default now.
            announce: False changes the job behind everybody's back.

        Raises:
            KeyError: no such job.
        """
        changed, now = self.jobs[job_id], self.clock.now() if at is None else at
        counted = self._counted[changed.space]
        counted[changed.status] -= 1
        changed.status = status or STATUS_AFTER.get(type) or changed.status
        counted[changed.status] += 1
        changed.updated_at = now
        match type:
            case "delivered":
                changed.delivered_at = now
            case "acked":
                changed.started_at = now
            case "progress":
                changed.progress = data
            case "retried":
                changed.delivered_at = changed.started_at = changed.progress = None
                changed.attempt = (
                    data.get("attemptNumber", changed.attempt) if isinstance(data, dict) else changed.attempt
                )
            case "completed":
                changed.result = data
        self._record(changed, type, data, now)
        if changed.status not in TERMINAL:
            changed.completed_at = None  # a job that is run again after its end
        elif changed.completed_at is None:
            changed.completed_at = now
            self._finished.append((self.clock.now(), job_id))
            self._forget()
        if announce:
            self._announce(changed, type, data, now)
        return changed

    def restart_streams(self) -> None:
        """The stream server starts anew (newer edition): another instance id, `seq` from 0. Connections stay."""
        self._instance = self._ulid(self.clock.now())
        self._seq = dict.fromkeys(self._seq, 0)

    # Endpoints

    def plan(self) -> Plan:
        return partial(job, newer=self.edition == "newer")

    def routes(self) -> Collection[web.RouteDef]:
        routes = [
            web.get("/api/v1/realtime/spaces/{space}", self._space_stream),
            web.get("/api/v1/realtime/{job}", self._job_stream),
            web.post("/api/v1/spaces/{space}/jobs", self._create),
        ]
        if self.edition == "newer":
            routes += [
                web.get("/api/v1/spaces/{space}/jobs", self._list),
                web.get("/api/v1/jobs/{job}", self._get),
            ]
        return routes

    async def _job_stream(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("token")
        grant = self._tokens.get(token or "")
        if token is None and self.edition == "newer":
            grant = Grant(frozenset({PROGRESS}), None)
        if grant is None:
            return _error(401, "Missing or invalid API key")
        watched = self.jobs.get(request.match_info["job"])
        if watched is None:
            return _error(404, "Job not found")
        if not grant.covers(watched.space) or not grant.scopes & {READ, PROGRESS}:
            return _error(403, "Forbidden")

        def greet(connection: Connection) -> None:
            data = watched.progress if self.edition == "newer" else None
            connection.send(encode(self._event(watched, "init", data, self.clock.now(), named=self.job_name)))

        return await self.serve(request, ("job", watched.id, grant.full), greet)

    async def _space_stream(self, request: web.Request) -> web.StreamResponse:
        space = request.match_info["space"]
        grant = self._tokens.get(request.query.get("token", ""))
        if grant is None:
            return _error(401, "Missing or invalid API key")
        if not grant.full or not grant.covers(space):
            return _error(403, "Forbidden")
        if space not in self._seq:
            return _error(404, "Space not found")

        def greet(connection: Connection) -> None:
            if self.edition == "newer":
                connection.send(encode(self._connected(request, space)))

        return await self.serve(request, ("space", space), greet)

    async def _create(self, request: web.Request) -> web.Response:
        refusal = self._refused(request, request.match_info["space"], CREATE)
        if refusal is not None:
            return refusal
        try:
            body = msgspec.json.decode(await request.read())
        except msgspec.DecodeError:
            return _error(400, "Invalid JSON")
        if not isinstance(body, dict) or not isinstance(body.get("name"), str):
            return _error(400, "name is required")
        if self.population.full:
            return _error(429, "Too many jobs")
        created = self.create_job(body["name"], space=request.match_info["space"], payload=body.get("payload"))
        if self.lives:
            self._lives[self.admit()] = created.id
        return web.Response(status=201, body=encode(_view(created)), content_type="application/json")

    async def _list(self, request: web.Request) -> web.Response:
        space = request.match_info["space"]
        refusal = self._refused(request, space, READ)
        if refusal is not None:
            return refusal
        try:
            limit = min(max(int(request.query.get("limit", "50")), 1), 100)
            offset = max(int(request.query.get("offset", "0")), 0)
        except ValueError:
            return _error(400, "limit and offset are whole numbers")
        status = request.query.get("status")
        if status is not None and status not in STATUSES:
            return _error(400, "Unknown status")
        found = [each for each in self.jobs.values() if each.space == space and status in (None, each.status)]
        found.sort(key=lambda each: (each.created_at, each.id), reverse=True)
        views = [_view(each) for each in found[offset : offset + limit]]
        return web.Response(body=encode(views), content_type="application/json")

    async def _get(self, request: web.Request) -> web.Response:
        found = self.jobs.get(request.match_info["job"])
        refusal = self._refused(request, found.space if found else None, READ)
        if refusal is not None:
            return refusal
        if found is None:
            return _error(404, "Job not found")
        return web.Response(
            body=encode(_view(found) | {"events": list(found.history)}), content_type="application/json"
        )

    def _refused(self, request: web.Request, space: str | None, scope: str) -> web.Response | None:
        grant = self._tokens.get(request.headers.get("x-api-key", ""))
        if grant is None:
            return _error(401, "Missing or invalid API key")
        if scope not in grant.scopes or (space is not None and not grant.covers(space)):
            return _error(403, "Forbidden")
        return _error(404, "Space not found") if space is not None and space not in self._seq else None

    # Lives

    def happened(self, happening: Happening) -> None:
        step, at = happening.step, happening.at
        if happening.task not in self._lives:
            if step.kind not in ("pending", "scheduled"):
                return  # the script removed the job
            spaces = self.credentials["spaces"]
            name = NAMES[int(self.chance.random() * len(NAMES))]
            payload = {"source": f"s3://bucket/{self.chance.getrandbits(32):08x}"}
            space = spaces[int(self.chance.random() * len(spaces))]
            created = self.create_job(name, space=space, payload=payload, status=step.kind, at=at)
            self._lives[happening.task] = created.id
            return
        id = self._lives[happening.task]
        if id not in self.jobs:
            del self._lives[happening.task]
            return
        if step.kind == "pending":
            self.push(id, "pending", at=at)
            return
        changed = self.push(id, step.kind, self._data(self.jobs[id], step, at), at=at)
        if changed.status in TERMINAL:
            del self._lives[happening.task]

    def _data(self, of: Job, step: Step, at: float) -> Any:
        percent = step.percent or 0
        stage = STAGES[min(percent * len(STAGES) // 100, len(STAGES) - 1)]
        match step.kind:
            case "progress" if self.edition == "newer":
                return {
                    "percent": percent,
                    "message": f"{stage} ({percent} %)",
                    "subProgress": {stage: {"percent": percent}},
                }
            case "progress":
                return {"percent": percent, "step": stage, "fps": 24 + int(self.chance.random() * 12)}
            case "checkpoint":
                return {"checkpoint": stage, "offset": percent * 1_000}
            case "completed":
                took = round((at - (of.started_at or at)) * 1_000)
                return {"output_url": f"s3://bucket/{of.id}/output.mp4", "duration_ms": took}
            case "retried":
                return {"error": "Connection timeout", "attemptNumber": step.attempt}
            case "dead":
                return {"error": "worker exited with code 1: out of memory"}
            case "custom":
                return {"note": f"passed {percent} %"}
        return None

    def _record(self, of: Job, type: str, data: Any, at: float) -> None:
        of.history.append({"type": type, "status": of.status, "data": data, "timestamp": timestamps.millis(at)})

    def _forget(self) -> None:
        oldest = self.clock.now() - self.settings.retain
        while self._finished and (self._finished[0][0] < oldest or len(self._finished) > self.settings.most):
            finished = self.jobs.get(self._finished.popleft()[1])
            if finished is not None and finished.status in TERMINAL:
                self._counted[finished.space][finished.status] -= 1
                del self.jobs[finished.id]

    def _ulid(self, at: float) -> str:
        number = (int(at * 1_000) << 80) | self.chance.getrandbits(80)
        return "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))

    # Frames

    def _announce(self, of: Job, type: str, data: Any, at: float) -> None:
        event = self._event(of, type, data, at)
        space = event
        if self.edition == "newer":
            self._seq[of.space] += 1
            space = event | {"seq": self._seq[of.space]}
            if type == "created" or (type in STATUS_AFTER and type not in ("progress", "checkpoint")):
                space["counts"] = self._counts(of.space)
        _send(self.subscribers(("space", of.space)), space)
        if not self.job_name:
            event = {key: value for key, value in event.items() if key != "jobName"}
        _send(self.subscribers(("job", of.id, True)), event)
        if self.edition == "newer" and type not in ("progress", "completed"):
            return  # newer editions keep everything else from tokens without jobs:read
        if type not in NEVER_DATA and type != "progress" and (data is not None or type in STATUS_AFTER):
            event = {key: value for key, value in event.items() if key != "data"}
            if self.stripped == "null":
                event["data"] = None
        _send(self.subscribers(("job", of.id, False)), event)

    def _event(self, of: Job, type: str, data: Any, at: float, *, named: bool = True) -> dict[str, Any]:
        event: dict[str, Any] = {"jobId": of.id, "jobName": of.name, "type": type, "status": of.status}
        if not named:
            del event["jobName"]
        if data is not None:
            event["data"] = data
        event["timestamp"] = timestamps.millis(at)
        return event

    def _connected(self, request: web.Request, space: str) -> dict[str, Any]:
        missed = False
        if "since" in request.query:
            # Without an instance id the number alone has to match.
            instance = request.query.get("streamInstanceId", self._instance)
            missed = request.query["since"] != str(self._seq[space]) or instance != self._instance
        return {
            "type": "connected",
            "spaceId": space,
            "seq": self._seq[space],
            "streamInstanceId": self._instance,
            "missed": missed,
            "counts": self._counts(space),
            "timestamp": timestamps.millis(self.clock.now()),
        }

    def _counts(self, space: str) -> dict[str, int]:
        return {status: self._counted[space][status] for status in STATUSES}


def _send(connections: list[Connection], event: dict[str, Any]) -> None:
    if connections:
        frame = encode(event)
        for connection in connections:
            connection.send(frame)


def _view(of: Job) -> dict[str, Any]:
    def instant(at: float | None) -> str | None:
        return None if at is None else timestamps.millis(at)

    return {
        "id": of.id,
        "spaceId": of.space,
        "name": of.name,
        "payload": of.payload,
        "status": of.status,
        "maxRetries": of.max_retries,
        "attemptNumber": of.attempt,
        "timeoutSeconds": of.timeout_seconds,
        "deliveredAt": instant(of.delivered_at),
        "startedAt": instant(of.started_at),
        "completedAt": instant(of.completed_at),
        "result": of.result,
        "createdAt": instant(of.created_at),
        "updatedAt": instant(of.updated_at),
    }


def _error(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=encode({"error": message}), content_type="application/json")
