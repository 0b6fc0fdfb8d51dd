"""A test kit that any adapter runs: numbered cards, each one promise of `adapters.api`.

    KIT = Kit(MyAdapter, {"name": "x", "adapter": "my", "url": "wss://x", "token": "t"}, frames=[...])

    @pytest.mark.parametrize("card", KIT.cards(), ids=str)
    def test_conformance(card): card()

A card raises AssertionError with its number and what is wrong. Cards for which the kit was given nothing are left out.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from pydantic import SecretStr, ValidationError

from adapters.api import (
    UNSET,
    Adapter,
    Continuity,
    Fault,
    Finished,
    Item,
    Observation,
    Rejected,
    Resume,
    Session,
    Stream,
    Verdict,
)
from schemas import rfc3339
from schemas.event import RANK, TASK_TYPES

_NOW = "2026-01-01T00:00:00.000000Z"
_ITEMS = (Observation, Rejected, Fault, Finished, Continuity)
_TYPES = frozenset(TASK_TYPES) - {"task.snapshot"}
#: A pure adapter has no use for these.
_FORBIDDEN = frozenset(
    {"asyncio", "aiohttp", "time", "random", "logging", "sqlite3", "socket", "threading", "requests"}
)
_HOSTILE: tuple[str | bytes, ...] = (
    "", " ", "\n", "null", "true", "0", '""', "[]", "{}", "[[]]", "[null]", "[{}]", '{"":null}', "{", "[", '"', "data:", "\x00",
    b"", b"\xff\xfe", b"\x00", "\ud800", "[" * 10_000, '{"a":' * 10_000, "9" * 5_000, '{"type":"\\ud800"}', "1e999",
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One promise; call it to check it."""

    number: int
    title: str
    check: Callable[[], None]

    def __call__(self) -> None:
        """Raises:
        AssertionError: the promise is broken.
        """
        try:
            self.check()
        except AssertionError as error:
            raise AssertionError(f"card {self.number} ({self.title}): {error}") from None

    def __str__(self) -> str:
        return f"{self.number}-{self.title.replace(' ', '-')}"


@dataclass(frozen=True)
class Kit:
    """What an adapter is checked with.

    Attributes:
        adapter: the class.
        config: a valid section of the configuration file, with recognizable secrets.
        frames: documented frames, one conversation in order, on the first stream of the configuration.
        tomorrow: frames with types, statuses or fields that the adapter does not know.
        internal: texts that are in some of the frames and must never leave the gateway.
        tickets: answers to `authorize`, where the adapter asks for one.
    """

    adapter: type[Adapter[Any]]
    config: dict[str, Any]
    frames: Sequence[str | bytes]
    tomorrow: Sequence[str | bytes] = ()
    internal: Sequence[str] = ()
    ticket: bytes | None = None

    def cards(self) -> list[Card]:
        """The cards that apply."""
        cards = [
            Card(1, "configuration is strict", self._configuration),
            Card(2, "streams are named", self._streams),
            Card(3, "secrets stay inside", self._secrets),
            Card(4, "documented frames are understood", self._understood),
            Card(5, "observations are well formed", self._well_formed),
            Card(6, "the same frames say the same", self._deterministic),
            Card(7, "no input raises", self._never_raises),
            Card(8, "a bad frame costs itself alone", self._isolated),
            Card(9, "closes are judged", self._closes),
            Card(10, "no I/O", self._pure),
            Card(13, "a cut character costs nothing else", self._cut),
        ]
        if self.tomorrow:
            cards.append(Card(11, "words of tomorrow are no losses", self._tomorrow))
        if self.internal:
            cards.append(Card(12, "internal fields never leave", self._internal))
        return cards

    # --- cards -------------------------------------------------------------------------------------------------------

    def _configuration(self) -> None:
        model = self.adapter.Config
        assert self._make().config.name == self.config["name"], "the configuration does not keep its name"
        for wrong in ({**self.config, "no_such_key": 1}, {**self.config, "adapter": "another"}):
            try:
                model.model_validate(wrong)
            except ValidationError:
                continue
            raise AssertionError("an unknown key or another adapter's name is accepted")

    def _streams(self) -> None:
        streams = self._make().streams()
        assert streams, "the example configuration asks for no stream"
        assert len({stream.key for stream in streams}) == len(streams), "two streams have one key"
        for stream in streams:
            assert stream.path.startswith("/"), f"path {stream.path!r} does not start with /"
            assert "?" not in stream.path, f"path {stream.path!r} has a query"

    def _secrets(self) -> None:
        adapter = self._make()
        secrets = [
            value.get_secret_value()
            for _, value in adapter.config
            if isinstance(value, SecretStr) and value.get_secret_value()
        ]
        missing = [secret for secret in secrets if secret not in adapter.secrets() and "://" not in secret]
        assert not missing, "secrets() does not name every secret of the configuration"
        request = self._open(adapter).request()
        shown = f"{adapter.config!r} {request!r} {request.endpoint} {request.origin}"
        assert not any(secret in shown for secret in secrets), "a secret is shown by a repr"
        assert request.url.startswith(("ws://", "wss://")), "the handshake is not a WebSocket URL"

    def _understood(self) -> None:
        for index, items in enumerate(self._run()):
            rejected = [item for item in items if isinstance(item, Rejected)]
            assert not rejected, f"frame {index} is rejected: {rejected}"
        assert any(isinstance(item, Observation) for items in self._run() for item in items), "nothing was observed"

    def _well_formed(self) -> None:
        for item in self._observations():
            where = f"{item.native_type} of {item.task_id!r}"
            assert item.task_id, "a task without an id"
            assert item.type is None or item.type in _TYPES, f"{where}: {item.type!r} is no canonical type"
            assert item.type is not None or item.status is not UNSET, f"{where}: a state without a status"
            assert item.type is None or item.identity, f"{where}: an occurrence without an identity"
            assert item.status is UNSET or item.status in RANK, f"{where}: {item.status!r} is no canonical status"
            for name in ("time", "created_at", "started_at", "completed_at"):
                value = getattr(item, name)
                assert value in (None, UNSET) or rfc3339.normalize(value) == value, (
                    f"{where}: {name} {value!r} is not UTC"
                )
            assert not isinstance(item.progress, int | float) or 0 <= item.progress <= 100, (
                f"{where}: progress {item.progress}"
            )
            for name in ("payload", "input", "result", "detail", "extra"):
                raw = getattr(item, name)
                if isinstance(raw, msgspec.Raw):
                    assert b"\n" not in bytes(raw), f"{where}: {name} has line breaks"
                    assert b"\r" not in bytes(raw), f"{where}: {name} has line breaks"
                    msgspec.json.decode(raw)

    def _deterministic(self) -> None:
        first, second = ([_plain(item) for item in self._observations()] for _ in range(2))
        assert first == second, "a second run of the same frames says something else"

    def _never_raises(self) -> None:
        for frame in (*_HOSTILE, *self._damaged()):
            try:
                items = self._open(self._make()).on_frame(frame)
            except Exception as error:
                raise AssertionError(f"{frame[:60]!r} raises {type(error).__name__}: {error}") from error
            assert all(isinstance(item, _ITEMS) for item in items), f"{frame[:60]!r} gives something that is no item"

    def _isolated(self) -> None:
        expected = [_plain(item) for item in self._observations()]
        session = self._open(self._make())
        seen: list[Any] = []
        for frame in self.frames:
            session.on_frame("\x00 not a frame of any upstream")
            seen += [_plain(item) for item in session.on_frame(frame) if isinstance(item, Observation)]
        assert seen == expected, "frames after a bad one are read differently"

    def _closes(self) -> None:
        for code in (None, 1000, 1001, 1006, 1011, 4000, 4999):
            verdict = self._open(self._make()).on_close(code, "")
            assert verdict in get_args(Verdict), f"close {code} is judged {verdict!r}"
        assert self._open(self._make()).on_close(1000, "") != "finished", "a clean close before any frame is no success"

    def _pure(self) -> None:
        module = inspect.getmodule(self.adapter)
        assert module is not None, "the adapter has no module"
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found = _FORBIDDEN & {name.partition(".")[0] for name in names}
            assert not found, f"{module.__name__} imports {', '.join(sorted(found))}"

    def _tomorrow(self) -> None:
        for frame in self.tomorrow:
            items = self._open(self._make()).on_frame(frame)
            observed = [item for item in items if isinstance(item, Observation)]
            assert observed, f"{frame[:60]!r} is lost: {items}"
            assert all(item.unfamiliar for item in observed), f"{frame[:60]!r} is not marked as unfamiliar"

    def _internal(self) -> None:
        everything = b"".join(_plain(item) for item in self._observations()).decode()
        assert any(word in str(frame) for frame in self.frames for word in self.internal), (
            "no frame has an internal text"
        )
        leaked = [word for word in self.internal if word in everything]
        assert not leaked, f"{leaked} left the adapter"

    def _cut(self) -> None:
        for frame in self.frames:
            text = frame if isinstance(frame, str) else frame.decode()
            for start in re.finditer(r':\s*"', text):
                cut, whole = (text[: start.end()] + one + text[start.end() :] for one in ("\\ud83d", "\\ufffd"))
                try:
                    seen, wanted = (
                        [
                            _plain(item)
                            for item in self._open(self._make()).on_frame(one)
                            if isinstance(item, Observation)
                        ]
                        for one in (cut, whole)
                    )
                except UnicodeError as error:
                    raise AssertionError(f"half a surrogate pair is passed on: {error}") from error
                assert seen == wanted, f"{cut[: start.end() + 20][-60:]!r} is lost: half a surrogate pair is JSON"

    # --- material ----------------------------------------------------------------------------------------------------

    def _make(self) -> Adapter[Any]:
        return self.adapter(self.adapter.Config.model_validate(self.config))

    def _open(self, adapter: Adapter[Any]) -> Session:
        stream: Stream = adapter.streams()[0]
        assert self.ticket is not None or adapter.authorize(stream) is None, "the adapter asks for a ticket: give one"
        return adapter.open(stream, Resume(first=True, now=_NOW), self.ticket)

    def _run(self) -> Iterator[list[Item]]:
        session = self._open(self._make())
        return (session.on_frame(frame) for frame in self.frames)

    def _observations(self) -> list[Observation]:
        return [item for items in self._run() for item in items if isinstance(item, Observation)]

    def _damaged(self) -> Iterator[str | bytes]:
        """Every documented frame, cut short, and with a piece taken out of its middle."""
        for whole in self.frames:
            frame = whole if isinstance(whole, bytes) else whole.encode()
            step = max(1, len(frame) // 97)
            for cut in range(0, len(frame), step):
                for damaged in (frame[:cut], frame[:cut] + frame[cut + step :]):
                    yield damaged if isinstance(whole, bytes) else damaged.decode("utf-8", "replace")


def _plain(item: Observation) -> bytes:
    return msgspec.json.encode(item)
