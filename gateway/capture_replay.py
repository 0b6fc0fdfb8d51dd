"""A capture, fed through the adapters that made sense of the live traffic: the same frames, the same observations. Pure.

What a live gateway knows beside the frames is taken from the capture, too: when each connection was opened, whether it was
the first, when it was quiet for long enough that the states sent on connect were complete. Must not know where observations
go.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from adapters import registry
from adapters.api import Adapter, Item, Resume, Session, SourceConfig, Stream
from gateway.capture import Capture, Record, Unreadable
from schemas import rfc3339

#: A ticket in the form that built-in adapters take: what was answered when it was asked for is not in a capture.
_TICKET = b'{"uuid": "removed"}'


@dataclass(slots=True)
class Step:
    """What one record of the capture says.

    Attributes:
        record: which.
        stream: the upstream stream that says it.
        items: in order; empty where a connection begins or ends.
        cursor: resume position of the stream after it.
    """

    record: Record
    stream: Stream
    items: list[Item]
    cursor: dict[str, Any] | None = None

    @property
    def received(self) -> float:
        """When, seconds since 1970, UTC."""
        return rfc3339.parse(self.record.at)


@dataclass(slots=True)
class _Connection:
    stream: Stream
    session: Session
    heard: float
    settled: bool = False


@dataclass(slots=True)
class _Source:
    adapter: Adapter[Any]
    streams: dict[str, Stream]
    connections: dict[int, _Connection] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    cursors: dict[str, dict[str, Any] | None] = field(default_factory=dict)


class Replay:
    """One pass through a capture.

    Attributes:
        configs: of the sources, without secrets, as their adapters understand them.
    """

    def __init__(self, capture: Capture) -> None:
        """Raises:
        Unreadable: a source's adapter is not installed, or does not take its configuration.
        """
        self._capture = capture
        self._sources: dict[str, _Source] = {}
        self.configs: list[SourceConfig] = []
        for each in capture.header.sources:
            try:
                kind = registry.load(each.adapter)
                config = kind.Config.model_validate(each.config)
            except registry.AdapterUnavailable as error:
                raise Unreadable(f"source {each.name!r}: {error}") from None
            except ValidationError as error:
                what = ", ".join(repr(".".join(map(str, item["loc"]))) for item in error.errors(include_url=False))
                raise Unreadable(f"source {each.name!r}: adapter {each.adapter} does not take its {what}") from None
            adapter = kind(config)
            self._sources[each.name] = _Source(adapter, {stream.path: stream for stream in adapter.streams()})
            self.configs.append(config)

    def steps(self) -> Iterator[Step]:
        """What the capture says, in order; records that say nothing to an adapter are left out.

        Raises:
            Unreadable: a record is of a source that the header does not name, or its binary frame is none.
        """
        for record in self._capture.records:
            source = self._sources.get(record.source)
            if source is None:
                raise Unreadable(
                    f"a record of {record.at} is of source {record.source!r}, which the header does not name"
                )
            if record.kind == "open":
                self._open(source, record)
            elif record.kind == "close" and record.connection in source.connections:
                connection = source.connections.pop(record.connection)
                source.cursors[record.endpoint] = connection.session.cursor
            elif record.kind in ("text", "binary"):
                yield from self._frame(source, record)
            elif record.kind == "answer":
                yield from self._answer(source, record)

    def _open(self, source: _Source, record: Record) -> None:
        stream = source.streams.get(record.endpoint) or _watch(source.adapter, record.endpoint)
        if stream is None or record.connection is None:
            raise Unreadable(f"source {record.source!r} has no stream at {record.endpoint!r}")
        first = source.first.get(record.endpoint)
        resume = Resume(
            first=first is None,
            now=record.at,
            connected_at=first,
            alive_at=source.last.get(record.endpoint),
            cursor=source.cursors.get(record.endpoint),
        )
        source.first.setdefault(record.endpoint, record.at)
        ticket = _TICKET if source.adapter.authorize(stream) is not None else None
        session = source.adapter.open(stream, resume, ticket)
        source.connections[record.connection] = _Connection(stream, session, rfc3339.parse(record.at))

    def _frame(self, source: _Source, record: Record) -> Iterator[Step]:
        connection = source.connections.get(record.connection or 0)
        if connection is None:
            return  # it was open before the capture began
        now = rfc3339.parse(record.at)
        quiet = connection.stream.settle
        if quiet is not None and not connection.settled and now - connection.heard >= quiet:
            connection.settled = True
            connection.session.on_settled()
        connection.heard = now
        source.last[record.endpoint] = record.at
        frame: str | bytes = record.text
        if record.kind == "binary":
            try:
                frame = base64.b64decode(record.text, validate=True)
            except ValueError:
                raise Unreadable(f"the binary frame of {record.at} is not base64") from None
        items = connection.session.on_frame(frame)
        yield Step(record, connection.stream, items, connection.session.cursor)

    def _answer(self, source: _Source, record: Record) -> Iterator[Step]:
        """A REST answer: of which question, its endpoint says."""
        adapter, body = source.adapter, record.text.encode()
        task_id = unquote(record.endpoint.rpartition("/")[2])
        for stream in source.streams.values():
            listing = adapter.listing(stream, 0)
            if listing is not None and listing.endpoint == record.endpoint:
                yield Step(record, stream, adapter.on_listing(body))
                return
        lookup = adapter.lookup(task_id) if task_id else None
        if lookup is not None and lookup.endpoint == record.endpoint:
            asked = next(iter(source.streams.values()), None) or adapter.watch(task_id)
            if asked is not None:
                yield Step(record, asked, adapter.on_lookup(task_id, body))


def _watch(adapter: Adapter[Any], endpoint: str) -> Stream | None:
    """The single-task watch at an endpoint, one that was asked for at run time, or a probe."""
    task_id = unquote(endpoint.rpartition("/")[2])
    for make in (adapter.watch, adapter.probe):
        try:
            stream = make(task_id)
        except ValueError:
            continue
        if stream is not None and stream.path == endpoint:
            return stream
    return None
