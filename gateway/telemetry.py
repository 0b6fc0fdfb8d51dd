"""Logs: one line an event, in JSON or for people, with no secret in it.

Owns the chain that every line goes through, those of libraries included, and the place it is written to. Must not know who
logs what. Fields are named constants of the caller; payloads are shown at level debug alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK: Final = "***"

#: A value longer than this is cut: a log line is no archive.
MAX_TEXT: Final = 8192
#: How deep a field's value is looked into before its `repr` is shown.
MAX_DEPTH: Final = 6
#: Shorter secrets are not looked for: they would blank out plain words. Whoever configures one has none.
MIN_SECRET: Final = 4

#: Fields that hold what an upstream or a client sent: for debugging alone.
PAYLOADS: Final = frozenset({"payload", "frame", "body", "excerpt"})

_FIELDS: Final = frozenset({
    "access_token", "api_key", "apikey", "authorization", "cookie", "password", "secret", "set-cookie", "token",
    "webhook-signature", "x-api-key",
})  # fmt: skip

#: What looks like a credential although nobody configured it: parameters of URLs, headers, tokens of clients.
_LIKELY: Final = (
    (
        re.compile(
            r"(?<![A-Za-z0-9_-])((?:access_|id_|refresh_)?token|uuid|(?:x-)?(?:api[_-]?)?key|sig|signature|secret|password)"
            r"(=[\"']?)[^\s&;,'\"<>()\[\]{}]+",
            re.IGNORECASE,
        ),
        rf"\1\2{MASK}",
    ),
    (
        re.compile(
            r"\b(authorization|x-api-key|set-cookie|cookie|webhook-signature)([\"']?\s*[:=,]\s*(?:b?[\"'])?)[^\"'\r\n]+",
            re.IGNORECASE,
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"\b(bearer)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1\2{MASK}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), MASK),  # RFC 7519: a compact JWT
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]+"), MASK),
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), rf"\1:{MASK}@"),
)

#: Control characters as escapes, so that nothing that was received can move the cursor of a terminal or forge a line.
_VISIBLE: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}
_ONE_LINE: Final = _VISIBLE | {0x0A: "\\n"}


class Scrubber:
    """The one structlog processor that keeps secrets out of logs.

    Any number of secrets may be known, so neither learning one nor looking at a text may cost more for each of them: a secret
    is looked for only in a text that has a certain short piece of it.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._by_piece: dict[str, list[str]] = {}
        self._plain: list[str] = []  # those without such a piece are looked for in every text
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """From now on these are masked as well, in every form that a URL, JSON or a `repr` gives them."""
        for secret in secrets:
            if len(secret) >= MIN_SECRET and secret not in self._secrets:
                self._secrets.add(secret)
                self._bucket(secret).append(secret)

    def _bucket(self, secret: str) -> list[str]:
        """Where a secret is kept: by that one of its pieces which the fewest others are kept by, for many begin alike."""
        pieces = [piece for piece in _pieces(secret) if piece.isascii() and piece.isalnum()]
        if not pieces:
            return self._plain
        piece = min(pieces, key=lambda piece: len(self._by_piece.get(piece, ())))
        return self._by_piece.setdefault(piece, [])

    def text(self, text: str) -> str:
        """A text without secrets."""
        found = {secret for piece in _pieces(text) for secret in self._by_piece.get(piece, ())}
        for secret in sorted(found.union(self._plain), key=len, reverse=True):
            text = _any_form(secret).sub(MASK, text)
        for pattern, replacement in _LIKELY:
            text = pattern.sub(replacement, text)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        clean: EventDict = {}
        for name, value in event.items():
            lines = name in ("exception", "stack")
            clean[self._name(name)] = MASK if name.lower() in _FIELDS and value else self._value(value, lines=lines)
        return clean

    def _name(self, name: object) -> str:
        return self.text(str(name)).translate(_ONE_LINE)

    def _value(self, value: object, *, lines: bool = False, depth: int = 0) -> Any:
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)  # JSON has no NaN
        if isinstance(value, str):
            return self.text(value).translate(_VISIBLE if lines else _ONE_LINE)
        if depth < MAX_DEPTH:
            if isinstance(value, Mapping):
                return {
                    self._name(name): MASK
                    if str(name).lower() in _FIELDS and item
                    else self._value(item, depth=depth + 1)
                    for name, item in value.items()
                }
            if isinstance(value, (list, tuple, set, frozenset)):
                return [self._value(item, depth=depth + 1) for item in value]
        if isinstance(value, BaseException):
            return self._value(f"{type(value).__name__}: {value}" if str(value) else type(value).__name__)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._value(bytes(value).decode("utf-8", "backslashreplace"))
        return self._value(repr(value))


def _pieces(text: str) -> Iterator[str]:
    """Everything of the length of the shortest secret that is in a text. Letters and digits are the same in every form."""
    return (text[at : at + MIN_SECRET] for at in range(len(text) - MIN_SECRET + 1))


def any_form(secrets: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of some secrets, in every form and of the length that is masked in logs."""
    long = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET}, key=len, reverse=True)
    return re.compile("|".join(_any_form(secret).pattern for secret in long) or "(?!)")


@functools.lru_cache(maxsize=256)
def _any_form(secret: str) -> re.Pattern[str]:
    """A pattern of a secret as it is, percent-encoded (whichever characters a library chooses to), or escaped."""
    return re.compile("".join(char if char.isalnum() and char.isascii() else _any_form_of(char) for char in secret))


def _any_form_of(char: str) -> str:
    percent = "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
    forms = {
        re.escape(char),
        re.escape(json.dumps(char)[1:-1]),
        re.escape(repr(char)[1:-1]),
        re.sub("[a-f]", lambda digit: f"[{digit[0]}{digit[0].upper()}]", percent),
    }
    if char == " ":
        forms.add(r"\+")
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"


class Output:
    """Where lines go. A log that nobody reads any more is lost; the gateway goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Writes one line, or loses it: never raises, because there is nobody left to tell."""
        line = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except BrokenPipeError:
                self._discard()
            except (OSError, ValueError):  # no room on the disk, or the stream was closed
                return

    def _discard(self) -> None:
        """The reader is gone for good; otherwise the interpreter stumbles over its last flush (Python docs, SIGPIPE)."""
        with contextlib.suppress(OSError, ValueError):  # a stream without a file
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


class _FromLibraries(logging.Handler):
    """Sends what libraries log with `logging` the same way."""

    def __init__(self, processors: Iterable[Processor], output: Output) -> None:
        super().__init__()
        self._processors = tuple(processors)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: Any = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            for processor in self._processors:
                event = processor(None, record.levelname.lower(), event)
            self._output.write(event)
        except Exception:  # as in logging: a record that cannot be rendered must not hurt the code that logs
            self._output.write(json.dumps({"level": "error", "event": "log_record_unreadable", "logger": record.name}))


class _Logger:
    """What structlog hands rendered lines to. `name` is the module that logs."""

    def __init__(self, output: Output, name: str) -> None:
        self.name = name
        self._output = output

    def msg(self, message: str) -> None:
        self._output.write(message)

    log = debug = info = warn = warning = error = critical = exception = fatal = failure = err = msg


_scrubber = Scrubber()
_stream: TextIO = sys.stdout


def conceal(*secrets: str) -> None:
    """Masks secrets that became known after `configure`, such as those of endpoints made through the API."""
    _scrubber.add(*secrets)


def scrub(text: str) -> str:
    """A text without secrets, for the few that leave the gateway by other ways than the log."""
    return _scrubber.text(text)


def configure(
    level: str = "info", format: str = "json", secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Sets up logging for the process. May be called again.

    Args:
        level: debug, info, warning or error.
        format: `json` (one object a line: ts, level, event, logger, ...) or `console`.
        secrets: what must never be seen; see `Scrubber`.
        stream: where lines go; standard output by default.
    """
    global _scrubber, _stream
    _scrubber, _stream = Scrubber(secrets), stream or sys.stdout
    reconfigure(level, format)


def reconfigure(level: str, format: str) -> None:
    """From now on lines are of another level and format. What is masked and where they go stays as it is."""
    output = Output(_stream)
    number = logging.getLevelNamesMapping()[level.upper()]
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _drop_payloads,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _scrubber,
        *_renderer(format, _stream),
    ]
    structlog.configure(
        processors=[structlog.processors.add_log_level, _name_logger, *chain],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *names: _Logger(output, names[0] if names else _caller()),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _FromLibraries)]:
        root.removeHandler(handler)
    root.addHandler(_FromLibraries(chain, output))
    root.setLevel(number)
    logging.captureWarnings(True)
    # Its format holds the request line with its query; what is worth knowing of a connection is logged where it is made.
    access = logging.getLogger("aiohttp.access")
    access.propagate = False
    access.disabled = True


def _renderer(format: str, stream: TextIO) -> list[Processor]:
    if format == "console":
        return [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), timestamp_key="ts", exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [_order, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _caller() -> str:
    """The module that logs: the first one on the stack that is not part of logging itself."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "?"))
        if name != __name__ and name.partition(".")[0] != "structlog":
            return name
        frame = frame.f_back
    return "?"


def _name_logger(logger: _Logger, method: str, event: EventDict) -> EventDict:
    event.setdefault("logger", logger.name)
    return event


def _drop_payloads(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if method == "debug":
        return event
    return {name: value for name, value in event.items() if name not in PAYLOADS}


def _order(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The same fields first on every line."""
    first = {name: event.pop(name) for name in ("ts", "level", "event", "logger") if name in event}
    return {**first, **event}
