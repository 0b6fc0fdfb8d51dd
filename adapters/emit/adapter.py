"""emit.run's endpoints: space streams and job streams, and how what was missed is repaired.

Source: emit-websockets.txt ("Job Stream", "Space Stream", "Scope-Based Data Filtering"); resume and REST of the newer
editions as described in the upstreams' README. Nothing here depends on the newer editions being there.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator

from adapters.api import (
    Adapter,
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
from adapters.emit import wire
from adapters.native import excerpt
from schemas.event import FINISHED

#: `init` comes "immediately on connect" on a job stream.
JOB_SETTLE = 2.0
#: A space stream sends no states; a newer one says at once what was missed.
SPACE_SETTLE = 0.5
PAGE = 100


class EmitConfig(SourceConfig):
    """`adapter: emit`."""

    adapter: Literal["emit"] = Field(description="emit.run")
    token: SecretStr = Field(min_length=1, description="API key with jobs:read (spaces) or jobs:read:progress (jobs)")
    spaces: tuple[str, ...] = Field(default=(), description="spaces to watch as a whole")
    jobs: tuple[str, ...] = Field(default=(), description="single jobs to watch")
    api_key: SecretStr | None = Field(default=None, description="REST key (x-api-key); the token where absent")

    @field_validator("spaces", "jobs")
    @classmethod
    def _ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            check_id(name)
        return value


def check_id(name: str) -> None:
    """Raises:
    ValueError: no job or space can have this id (it would be another endpoint, or no path segment).
    """
    if not name or len(name) > 200 or name in ("spaces", ".", "..") or not name.isprintable():
        raise ValueError(f"{name[:64]!r} is not an id")


class Emit(Adapter[EmitConfig]):
    """One emit.run key with its spaces and jobs."""

    Config: ClassVar[type[SourceConfig]] = EmitConfig

    def secrets(self) -> list[str]:
        return [key.get_secret_value() for key in (self.config.token, self.config.api_key) if key is not None]

    def streams(self) -> list[Stream]:
        spaces = [
            Stream(
                key=f"space:{space}",
                path=f"/api/v1/realtime/spaces/{quote(space, safe='')}",
                gap="always",
                settle=SPACE_SETTLE,
            )
            for space in dict.fromkeys(self.config.spaces)
        ]
        return spaces + [self.watch(job) for job in dict.fromkeys(self.config.jobs)]

    def watch(self, task_id: str) -> Stream:
        check_id(task_id)
        path = f"/api/v1/realtime/{quote(task_id, safe='')}"
        return Stream(key=f"job:{task_id}", path=path, task_id=task_id, gap="always", settle=JOB_SETTLE)

    def probe(self, task_id: str) -> Stream:
        return self.watch(task_id)

    def open(self, stream: Stream, resume: Resume, ticket: bytes | None) -> Session:
        query = {"token": self.config.token.get_secret_value()}
        cursor = resume.cursor or {}
        if stream.task_id is None and "seq" in cursor and "instance" in cursor:
            query["since"] = str(cursor["seq"])
            query["streamInstanceId"] = str(cursor["instance"])
        return EmitSession(Request(url=self.config.ws(stream.path, query)), stream.task_id, cursor)

    def lookup(self, task_id: str) -> Request:
        return self._rest(f"/api/v1/jobs/{quote(task_id, safe='')}")

    def on_lookup(self, task_id: str, body: bytes) -> list[Item]:
        return wire.read_job(body)

    def listing(self, stream: Stream, page: int) -> Request | None:
        if stream.task_id is not None:
            return None
        space = stream.path.rpartition("/")[2]
        return self._rest(f"/api/v1/spaces/{space}/jobs", {"limit": str(PAGE), "offset": str(page * PAGE)})

    def on_listing(self, body: bytes) -> list[Item]:
        return wire.read_jobs(body)

    def _rest(self, path: str, query: dict[str, str] | None = None) -> Request:
        key = self.config.api_key or self.config.token
        headers = {"x-api-key": key.get_secret_value(), "Accept": "application/json"}
        return Request(url=self.config.rest(path, query), headers=headers)


class EmitSession(Session):
    """One connection to a space stream or a job stream."""

    def __init__(self, request: Request, task_id: str | None, cursor: dict[str, Any]) -> None:
        self._request = request
        self._task_id = task_id
        self._cursor = dict(cursor)
        self._finished = False

    def request(self) -> Request:
        return self._request

    @property
    def cursor(self) -> dict[str, Any] | None:
        return self._cursor or None

    def on_frame(self, frame: str | bytes) -> list[Item]:
        try:
            text = frame if isinstance(frame, str) else frame.decode()
        except UnicodeDecodeError:
            return [Rejected("malformed", "a binary frame that is not UTF-8", excerpt(frame))]
        # A space stream needs jobs:read, "so events always include full data" (emit-websockets.txt, "Space Stream").
        items, position = wire.read(text, may_be_stripped=self._task_id is not None)
        if position is not None and self._task_id is None:
            if position.seq is not None:
                self._cursor["seq"] = position.seq
            if position.instance is not None:
                self._cursor["instance"] = position.instance
        if self._task_id is not None:
            self._finished = self._finished or any(
                isinstance(item, Observation) and item.task_id == self._task_id and _ends(item) for item in items
            )
            if self._finished:
                items.append(Finished())
        return items

    def on_close(self, code: int | None, reason: str) -> Verdict:
        return "finished" if self._finished else "retry"


def _ends(item: Observation) -> bool:
    """Whether nothing more will come on a job stream: its state, or one of the events that say so, is final."""
    return item.status in FINISHED and (item.type is None or item.type in _ENDS)


_ENDS = frozenset({"task.succeeded", "task.failed", "task.cancelled"})
