"""Triverse's endpoints: which connections to keep, where they resume, when they end.

Source: triverse-websockets.txt ("Connection & Authentication", "Watch All Tasks", "Catch-up Mechanism"),
triverse-task-status.txt ("Endpoint"), triverse-common-structures.txt ("Download Response").
"""

from __future__ import annotations

from typing import ClassVar, Literal
from urllib.parse import quote

import msgspec
from pydantic import Field, SecretStr, field_validator

from adapters import native, sse
from adapters.api import (
    Adapter,
    Finished,
    Item,
    Observation,
    Origin,
    Rejected,
    Request,
    Resume,
    Session,
    SourceConfig,
    Stream,
    Verdict,
)
from adapters.triverse import wire
from schemas import rfc3339
from schemas.duration import Seconds
from schemas.event import FINISHED

#: How far before the oldest interesting task a catch-up asks. `since` is exclusive and filters on creation time; tasks may
#: become visible a little later than they were created, and the two clocks need not agree.
OVERLAP = 60.0

#: Catch-up frames are sent "immediately" and have no end marker: so much quiet is taken for the end.
SETTLE = 2.0


class TriverseConfig(SourceConfig):
    """`adapter: triverse`."""

    adapter: Literal["triverse"] = Field(description="Triverse")
    token: SecretStr = Field(min_length=1, description="API key")
    watch: Literal["all"] | tuple[str, ...] = Field(default="all", description="all, or the tasks to watch, or none")
    catch_up: Seconds | None = Field(default=None, description="how far back the very first connect asks")

    @field_validator("watch")
    @classmethod
    def _tasks(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for task_id in () if isinstance(value, str) else value:
            check_task_id(task_id)
        return value


def check_task_id(task_id: str) -> None:
    """Raises:
    ValueError: no task can have this id (it would be another endpoint, or no path segment).
    """
    if not task_id or len(task_id) > 200 or task_id in ("all", ".", "..") or not task_id.isprintable():
        raise ValueError(f"{task_id[:64]!r} is not a task id")


class Triverse(Adapter[TriverseConfig]):
    """One Triverse account."""

    Config: ClassVar[type[SourceConfig]] = TriverseConfig

    def secrets(self) -> list[str]:
        return [self.config.token.get_secret_value()]

    def streams(self) -> list[Stream]:
        if self.config.watch == "all":
            path = "/api/v1/tasks/watch/all"
            return [Stream(key="all", path=path, whole_source=True, settle=SETTLE)]
        return [self.watch(task_id) for task_id in dict.fromkeys(self.config.watch)]

    def watch(self, task_id: str) -> Stream:
        check_task_id(task_id)
        path = f"/api/v1/tasks/watch/{quote(task_id, safe='')}"
        return Stream(key=f"task:{task_id}", path=path, task_id=task_id, settle=SETTLE)

    def open(self, stream: Stream, resume: Resume, ticket: bytes | None) -> Session:
        query = {"token": self.config.token.get_secret_value()}
        since = None if stream.task_id else self._since(resume)
        if since is not None:
            query["since"] = since
        request = Request(url=self.config.ws(stream.path, query))
        return TriverseSession(request, stream.task_id, resume, catching_up=since is not None or not resume.first)

    def _since(self, resume: Resume) -> str | None:
        """`since` filters on creation time: reach back before the oldest unfinished known task, or a task that finished
        during the outage would never be heard of again (triverse-websockets.txt, "Catch-up Mechanism")."""
        # The upstream's word is not taken for a time to come: one task "created" tomorrow would hide all until then.
        known = [rfc3339.parse(time) for time in (resume.oldest_unfinished, resume.newest) if time]
        if resume.first and not known:
            if self.config.catch_up is None:
                return None
            return rfc3339.render(rfc3339.parse(resume.now) - self.config.catch_up)
        if not known:
            known = [rfc3339.parse(resume.connected_at or resume.now)]
        if resume.alive_at is not None:
            known.append(rfc3339.parse(resume.alive_at))
        return rfc3339.render(min(known) - OVERLAP)

    def created(self, payload: bytes) -> list[Item]:
        return [wire.read(payload.decode("utf-8", "replace"), "created")]

    def lookup(self, task_id: str) -> Request:
        return self._rest(f"/api/v1/tasks/{quote(task_id, safe='')}")

    def on_lookup(self, task_id: str, body: bytes) -> list[Item]:
        return [wire.read(body.decode("utf-8", "replace"), "status", "reconcile")]

    def download(self, task_id: str) -> Request:
        return self._rest(f"/api/v1/tasks/url/{quote(task_id, safe='')}")

    def on_download(self, body: bytes) -> msgspec.Raw | Rejected:
        return wire.public_object(body)

    def _rest(self, path: str) -> Request:
        headers = {"Authorization": f"Bearer {self.config.token.get_secret_value()}", "Accept": "application/json"}
        return Request(url=self.config.rest(path), headers=headers)


class TriverseSession(Session):
    """One connection to `watch/all` or `watch/{task_uuid}`."""

    def __init__(self, request: Request, task_id: str | None, resume: Resume, *, catching_up: bool) -> None:
        self._request = request
        self._task_id = task_id
        self._opened = rfc3339.parse(resume.now)
        self._catching_up = catching_up
        self._mentioned: set[str] = set()
        self._terminal = False

    def request(self) -> Request:
        return self._request

    def on_settled(self) -> None:
        self._catching_up = False
        self._mentioned.clear()

    def on_frame(self, frame: str | bytes) -> list[Item]:
        try:
            text = frame if isinstance(frame, str) else frame.decode()
        except UnicodeDecodeError:
            return [Rejected("malformed", "a binary frame that is not UTF-8", native.excerpt(frame))]
        items: list[Item] = []
        for event in sse.parse(text):
            item = wire.read(event.data, event.type)
            if isinstance(item, Observation):
                item.origin = self._origin(item)
                item.unfamiliar = item.unfamiliar or event.type not in ("update", "finalized", "message")
                if self._task_id == item.task_id and item.status in FINISHED:
                    self._terminal = True
            items.append(item)
            if self._terminal and event.type == "finalized":
                items.append(Finished())
        if not items and text.strip() and not text.lstrip().startswith(":"):
            return [Rejected("malformed", "no data in the frame's event stream", native.excerpt(text))]
        return items

    def _origin(self, item: Observation) -> Origin:
        """The first word on a task after connect is its state as the upstream caught us up, unless it is newer than that."""
        if not self._catching_up or item.task_id in self._mentioned:
            return "live"
        self._mentioned.add(item.task_id)
        if isinstance(item.created_at, str) and rfc3339.parse(item.created_at) > self._opened:
            return "live"
        return "catchup"

    def on_close(self, code: int | None, reason: str) -> Verdict:
        return "finished" if self._terminal else "retry"
