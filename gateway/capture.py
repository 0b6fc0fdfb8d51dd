"""Captures: what upstreams sent, word for word, in a file that can be given away.

One JSON object a line. The first is the header, `{"mainstem_capture": 1, ...}`; every other one is a `Record`. Owns the
format and what is taken out of it: known credentials, anything that looks like one, and the queries of URLs. Must not know
how frames are got (`gateway.upstream.tapped`), nor what they mean (`gateway.capture_replay`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import msgspec
from pydantic import SecretStr

from adapters.api import Adapter, SourceConfig
from gateway import __version__
from gateway.clock import Clock
from gateway.errors import MainstemError
from gateway.upstream.tapped import Direction, Kind, Line
from schemas import rfc3339

#: Of the format. A reader refuses a greater one.
VERSION = 1
MASK = "***"
#: Records that wait to be written; then sockets are read no further.
_WAITING = 1000
#: Stands for a secret where a configuration needs one to be valid.
_SECRET = "removed"


class CapturedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source of the header: enough to make its adapter again. `config` is its section, without secrets."""

    name: str
    adapter: str
    config: dict[str, Any]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    mainstem_capture: int
    created_at: str
    mainstem: str
    sources: list[CapturedSource]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every other line.

    Attributes:
        at: when, RFC 3339 UTC.
        source: name of the source.
        adapter: its adapter.
        endpoint: path, without query.
        direction: `out` is from the gateway.
        kind: see `gateway.upstream.tapped.Kind`.
        text: the frame, the body of an answer, code and reason of a close; in a `binary` frame, base64.
        connection: counted from 1 for each source; None for REST.
    """

    at: str
    source: str
    adapter: str
    endpoint: str
    direction: Direction
    kind: Kind
    text: str = ""
    connection: int | None = None


class Unreadable(MainstemError):
    """The file is no capture, or one of a later version. The message says where."""


# --- what is taken out -----------------------------------------------------------------------------------------------

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2}[^\s\"<>\\]*(?:\\(?:/|u0026)[^\s\"<>\\]*)*")
_USER = re.compile(r"^([^:]*:(?:\\?/){2})[^/\\?#@]*@")
_VALUE = re.compile(r"((?:[?&;]|\\u0026)[^=&;#\s\"\\]+=)[^&;#\s\"\\]*")
_LIKELY = (
    (
        re.compile(
            r'("[\w-]*(?:token|secret|password|passwd|api[_-]?key|authorization|credentials?|cookie|signature)"\s*:\s*")'
            r'(?:[^"\\]|\\.)*(?=")',
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), MASK),  # RFC 7519: a compact JWT
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]+"), MASK),
)


def clean(text: str) -> str:
    """A text without what looks like a credential. JSON stays JSON."""
    text = _URL.sub(lambda match: _VALUE.sub(rf"\1{MASK}", _USER.sub(rf"\1{MASK}@", match.group())), text)
    for pattern, replacement in _LIKELY:
        text = pattern.sub(replacement, text)
    return text


def _public(config: SourceConfig) -> dict[str, Any]:
    """A source's section with something else in the place of each secret, still valid for its adapter."""

    def public(value: object) -> Any:
        match value:
            case SecretStr():
                secret = value.get_secret_value()
                return clean(secret) if "://" in secret else _SECRET
            case Mapping():
                return {key: public(item) for key, item in value.items()}
            case list() | tuple():
                return [public(item) for item in value]
            case str():
                return clean(value)
            case _ if hasattr(value, "model_dump"):
                return value.model_dump(mode="json")
            case _:
                return value

    return {name: public(getattr(config, name)) for name in config.model_fields_set}


# --- writing ---------------------------------------------------------------------------------------------------------


class Recorder:
    """Writes a capture. `run` must run while something is told; `tap` is what sources are given.

    Args:
        file: open for writing.
        sources: what is captured.
        clock: for the time of each record.
    """

    def __init__(self, file: TextIO, sources: Iterable[SourceConfig], clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(_WAITING)
        self.records = 0
        header = Header(
            mainstem_capture=VERSION,
            created_at=rfc3339.render(clock.now()),
            mainstem=__version__,
            sources=[CapturedSource(name=each.name, adapter=each.adapter, config=_public(each)) for each in sources],
        )
        self._file.write(_line(header))

    def tap(self, adapter: Adapter[Any], scrub: Callable[[str], str]) -> Line:
        """The line of one source; see `gateway.upstream.tapped.Tap`."""
        config = adapter.config
        # what is answered there is a credential, whatever it looks like
        requests = (adapter.authorize(stream) for stream in adapter.streams())
        tickets = {request.endpoint for request in requests if request is not None}

        def line(endpoint: str, connection: int | None, direction: Direction, kind: Kind, text: str) -> Awaitable[None]:
            if kind == "answer" and endpoint in tickets:
                text = MASK
            record = Record(
                at=rfc3339.render(self._clock.now()),
                source=config.name,
                adapter=config.adapter,
                endpoint=endpoint,
                direction=direction,
                kind=kind,
                text=text if kind == "binary" else clean(scrub(text)),
                connection=connection,
            )
            self.records += 1
            return self._queue.put(_line(record))

        return line

    async def run(self) -> None:
        """Writes until `finish`, in a thread: a slow disk does not stop the reading of sockets, only slows it.

        Raises:
            OSError: it cannot be written.
        """
        while (line := await self._queue.get()) is not None:
            lines = [line]
            while not self._queue.empty():
                following = self._queue.get_nowait()
                if following is None:
                    await asyncio.to_thread(self._write, lines)
                    return
                lines.append(following)
            await asyncio.to_thread(self._write, lines)

    def _write(self, lines: list[str]) -> None:
        self._file.writelines(lines)
        self._file.flush()

    async def finish(self) -> None:
        """`run` ends once everything is written."""
        await self._queue.put(None)


def _line(value: Header | Record) -> str:
    return msgspec.json.encode(value).decode() + "\n"


# --- reading ---------------------------------------------------------------------------------------------------------


class Capture(msgspec.Struct, frozen=True):
    """A capture in memory."""

    header: Header
    records: list[Record]


def read(path: Path) -> Capture:
    """A capture from a file.

    Raises:
        Unreadable: it is none.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror}") from None
    try:
        version = msgspec.json.decode(lines[0] if lines else b"")["mainstem_capture"]
        if not isinstance(version, int) or version > VERSION:
            raise Unreadable(f"{path}: a capture of version {version}, and this program reads up to {VERSION}")
        header = msgspec.json.decode(lines[0], type=Header)
    except (msgspec.DecodeError, KeyError, TypeError):
        raise Unreadable(f"{path}:1: is no capture: its first line is no header") from None
    records = []
    for number, line in enumerate(lines[1:], 2):
        try:
            record = msgspec.json.decode(line, type=Record)
            rfc3339.parse(record.at)
            records.append(record)
        except ValueError as error:  # msgspec's, too
            raise Unreadable(f"{path}:{number}: {error}") from None
    return Capture(header, records)
