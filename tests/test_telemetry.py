"""Logs: the shape of a line, and that no secret is in one, whatever way it came."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import structlog
import yarl
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway import telemetry
from gateway.telemetry import MASK, Scrubber

SECRET = 'canary/+ &="\\é\n1'
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves logging as it was found."""
    root, access, show = logging.getLogger(), logging.getLogger("aiohttp.access"), warnings.showwarning
    before = (list(root.handlers), root.level, access.disabled, access.propagate)
    yield
    root.handlers[:], access.disabled, access.propagate = before[0], before[2], before[3]
    root.setLevel(before[1])
    logging.captureWarnings(False)
    warnings.showwarning = show
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    """What was logged so far, as objects."""
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


class TestChanged:
    def test_level_and_format(self, stream: io.StringIO, lines: Lines) -> None:
        """Of loggers that are there already, and of libraries; where lines go and what is masked stays."""
        telemetry.configure("info", "console", ["canary-1"], stream)
        telemetry.conceal("canary-2")
        log, library = structlog.get_logger("gateway.x"), logging.getLogger("some.library")
        telemetry.reconfigure("debug", "json")
        log.debug("one", text="canary-1")
        library.debug("two canary-2")
        telemetry.reconfigure("warning", "json")
        log.info("three")
        library.info("four")
        log.warning("five")
        assert [(line["event"], line.get("text")) for line in lines()] == [
            ("one", "***"),
            ("two ***", None),
            ("five", None),
        ]


class TestShape:
    def test_json(self, stream: io.StringIO, lines: Lines) -> None:
        """One object a line: time in RFC 3339 UTC, level, event, the module that logs, fields."""
        telemetry.configure("info", "json", stream=stream)
        structlog.contextvars.bind_contextvars(source="studio")
        structlog.get_logger().info("source_up", endpoint="/api", tries=3, ok=True, ratio=float("nan"), none=None)
        (line,) = lines()
        assert list(line)[:4] == ["ts", "level", "event", "logger"]
        assert line.pop("ts").endswith("Z")
        assert line == {
            "level": "info", "event": "source_up", "logger": __name__, "source": "studio", "endpoint": "/api",
            "tries": 3, "ok": True, "ratio": "nan", "none": None,
        }  # fmt: skip

    def test_named_logger(self, stream: io.StringIO, lines: Lines) -> None:
        """A name that is given is kept."""
        telemetry.configure(stream=stream)
        structlog.get_logger("gateway.cli").warning("odd")
        assert lines()[0]["logger"] == "gateway.cli"

    def test_console(self, stream: io.StringIO) -> None:
        """For people: no colours where there is no terminal."""
        telemetry.configure("info", "console", ["canary"], stream)
        structlog.get_logger().error("source_down", error=ValueError("canary"), name="a\x1b[31m\nb")
        text = stream.getvalue()
        assert "source_down" in text
        assert f"ValueError: {MASK}" in text
        assert "\x1b" not in text
        assert len(text.splitlines()) == 1

    def test_level(self, stream: io.StringIO, lines: Lines) -> None:
        """What lies below the level is not written, of libraries neither."""
        telemetry.configure("warning", stream=stream)
        structlog.get_logger().info("a")
        logging.getLogger("aiohttp").info("b")
        structlog.get_logger().warning("c")
        logging.getLogger("aiohttp").warning("d")
        assert [line["event"] for line in lines()] == ["c", "d"]

    def test_no_payload_above_debug(self, stream: io.StringIO, lines: Lines) -> None:
        """What upstreams and clients send is for debugging alone."""
        telemetry.configure("debug", stream=stream)
        structlog.get_logger().debug("frame_rejected", excerpt="{...", reason="json")
        structlog.get_logger().warning(
            "frame_rejected", excerpt="{...", payload="p", body="b", frame="f", reason="json"
        )
        first, second = lines()
        assert first["excerpt"] == "{..."
        assert {"excerpt", "payload", "body", "frame"}.isdisjoint(second)
        assert second["reason"] == "json"

    def test_long_text_is_cut(self, stream: io.StringIO, lines: Lines) -> None:
        """A line is bounded, and says how much there was."""
        telemetry.configure(stream=stream)
        structlog.get_logger().info("x", text="a" * 20_000)
        assert lines()[0]["text"] == "a" * telemetry.MAX_TEXT + "... (20000 characters)"

    def test_exceptions(self, stream: io.StringIO, lines: Lines) -> None:
        """With their traceback, which keeps its lines, and without the values of local variables."""
        telemetry.configure(secrets=["canary-1"], stream=stream)
        canary_local = "local-value"
        try:
            raise ValueError(f"bad canary-1 {len(canary_local)}")
        except ValueError:
            structlog.get_logger().exception("failed")
        (line,) = lines()
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith(f"ValueError: bad {MASK} 11")
        assert "local-value" not in line["exception"]


class TestLibraries:
    def test_same_lines(self, stream: io.StringIO, lines: Lines) -> None:
        """`logging` ends in the same place, scrubbed like everything."""
        telemetry.configure(secrets=["canary-1"], stream=stream)
        try:
            raise OSError("wss://h/?token=abc canary-1")
        except OSError:
            logging.getLogger("asyncio").exception("Task %s", "canary-1")
        (line,) = lines()
        assert line["event"] == f"Task {MASK}"
        assert (line["level"], line["logger"]) == ("error", "asyncio")
        assert line["exception"].endswith(f"OSError: wss://h/?token={MASK} {MASK}")

    def test_no_access_log(self, stream: io.StringIO) -> None:
        """Its lines hold the whole request line, query included."""
        telemetry.configure("debug", stream=stream)
        logging.getLogger("aiohttp.access").info("GET /v1/stream?token=abc")
        assert stream.getvalue() == ""

    def test_warnings(self, stream: io.StringIO, lines: Lines) -> None:
        """Warnings of libraries are log lines, too."""
        telemetry.configure(stream=stream)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert lines()[0]["logger"] == "py.warnings"

    def test_record_that_cannot_be_rendered(self, stream: io.StringIO, lines: Lines) -> None:
        """A library's mistake in its arguments is named, and hurts nobody."""
        logging.getLogger().handlers.clear()  # pytest's own would raise
        telemetry.configure(stream=stream)
        logging.getLogger("lib").warning("%d", "canary")
        assert lines() == [{"level": "error", "event": "log_record_unreadable", "logger": "lib"}]

    def test_configured_twice(self, stream: io.StringIO, lines: Lines) -> None:
        """The last call counts, and nothing is written twice."""
        telemetry.configure("error", stream=io.StringIO())
        telemetry.configure("info", stream=stream)
        logging.getLogger("lib").warning("once")
        structlog.get_logger().info("twice")
        assert [line["event"] for line in lines()] == ["once", "twice"]


class TestScrubbing:
    @pytest.mark.parametrize(
        "form",
        [
            str,
            quote,
            quote_plus,
            repr,
            json.dumps,
            lambda secret: quote(secret, safe=""),
            lambda secret: quote(secret).lower(),
            lambda secret: str(yarl.URL("wss://h/").with_query({"x": secret})),
            lambda secret: str({"k": [secret]}),
            lambda secret: json.dumps(secret, ensure_ascii=False),
        ],
    )
    def test_forms_of_a_configured_secret(self, form: Callable[[str], str]) -> None:
        """As it is, in any URL, in JSON, in a repr."""
        text = Scrubber([SECRET]).text(f"before {form(SECRET)} after")
        assert "canary" not in text
        assert text.startswith("before ")
        assert text.endswith(" after")

    @given(st.text(min_size=telemetry.MIN_SECRET, max_size=40).filter(lambda text: text.strip("*")))
    def test_any_secret(self, secret: str) -> None:
        """No secret is too odd to be found, plain or in a query."""
        scrubber = Scrubber([secret])
        assert scrubber.text(f"<{secret}>") == f"<{MASK}>"
        encodable = secret.encode("utf-8", "replace").decode()
        assert Scrubber([encodable]).text(f"<{quote(encodable, safe='')}>") == f"<{MASK}>"

    @pytest.mark.parametrize(
        ("text", "clean"),
        [
            ("wss://h/a?token=abc&since=2026-01-01", f"wss://h/a?token={MASK}&since=2026-01-01"),
            ("wss://h/a?uuid=abc", f"wss://h/a?uuid={MASK}"),
            ("https://h/?x=1&API_KEY=abc#f", f"https://h/?x=1&API_KEY={MASK}"),
            ("key=abc, sig=def; signature='ghi'", f"key={MASK}, sig={MASK}; signature='{MASK}'"),
            ("access_token=abc password=x", f"access_token={MASK} password={MASK}"),
            ("task_uuid=abc monkey=1", "task_uuid=abc monkey=1"),
            ("Authorization: Bearer abc.def", f"Authorization: {MASK}"),
            ("{'Authorization': 'Basic abc', 'Accept': 'x'}", f"{{'Authorization': '{MASK}', 'Accept': 'x'}}"),
            ("(b'x-api-key', b'abc')", f"(b'x-api-key', b'{MASK}')"),
            ("sent bearer abcdefgh1234.", f"sent bearer {MASK}"),
            ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln here", f"got {MASK} here"),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", MASK),
            ("ws://user:pass@host/a", f"ws://user:{MASK}@host/a"),
            ("nothing to see at 12:30, a:b@c", "nothing to see at 12:30, a:b@c"),
        ],
    )
    def test_likely_credentials(self, text: str, clean: str) -> None:
        """What looks like a credential is one, configured or not; what stands around it stays."""
        assert Scrubber().text(text) == clean

    def test_every_place_of_an_event(self, stream: io.StringIO) -> None:
        """Names, nested values, bytes, exceptions, objects, context and the event itself."""

        class Holder:
            def __repr__(self) -> str:
                return "<Holder canary-1>"

        telemetry.configure(secrets=["canary-1"], stream=stream)
        structlog.contextvars.bind_contextvars(context="canary-1")
        structlog.get_logger().warning(
            "canary-1",
            plain="canary-1",
            nested={"canary-1": [("canary-1", {"canary-1"})]},
            deep=[[[[[[[["canary-1"]]]]]]]],
            data=b"canary-1",
            error=KeyError("canary-1"),
            object=Holder(),
            secret_str=SecretStr("canary-1"),
            canary_1="canary%2D1",
            stack_info=True,
        )
        assert "canary-1" not in stream.getvalue()
        assert "canary%2D1" not in stream.getvalue()
        assert stream.getvalue().count(MASK) >= 9

    def test_fields_that_are_secret_by_name(self, stream: io.StringIO, lines: Lines) -> None:
        """Even where the value is unknown, at any depth; task keys are no secrets."""
        telemetry.configure(stream=stream)
        headers = {"Authorization": "x", "Accept": "y"}
        structlog.get_logger().info("x", token="abc", secret=None, headers=headers, key="studio/1", task_uuid="u")
        (line,) = lines()
        assert (line["token"], line["secret"], line["key"], line["task_uuid"]) == (MASK, None, "studio/1", "u")
        assert line["headers"] == {"Authorization": MASK, "Accept": "y"}

    def test_secrets_learnt_later(self, stream: io.StringIO, lines: Lines) -> None:
        """Those of endpoints made through the API."""
        telemetry.configure(stream=stream)
        telemetry.conceal("canary-1", "canary-12")
        structlog.get_logger().info("x", text="canary-12 canary-1")
        assert lines()[0]["text"] == f"{MASK} {MASK}"
        assert telemetry.scrub("canary-1") == MASK

    def test_a_pattern_of_some_secrets(self) -> None:
        """For texts that are no logs: the longest wins, short ones are none, and of none nothing is found."""
        found = telemetry.any_form(["canary-1", "canary-12", "abc"])
        assert found.sub(MASK, "canary%2d12 canary-1 abc") == f"{MASK} {MASK} abc"
        assert telemetry.any_form(["abc"]).sub(MASK, "abc") == "abc"

    def test_a_secret_costs_nothing_until_it_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thousand endpoints, each with a secret and a header, make neither a text nor the next secret more work."""
        looked_for: list[str] = []
        any_form = telemetry._any_form

        def counted(secret: str) -> object:
            looked_for.append(secret)
            return any_form(secret)

        monkeypatch.setattr(telemetry, "_any_form", counted)
        scrubber = Scrubber()
        for number in range(1000):
            scrubber.add(f"Bearer key-{number:04}-of-many", f"{number:04}-=/")
        assert looked_for == []
        assert scrubber.text("Bearer of nothing, a key to many") == "Bearer of nothing, a key to many"
        assert len(looked_for) <= 10
        looked_for.clear()
        assert scrubber.text("sent Bearer+key-0456-of-many and 0789-%3d/") == f"sent {MASK} and {MASK}"
        assert len(looked_for) <= 10

    def test_secrets_that_begin_and_end_within_words(self) -> None:
        """What stands directly before and behind a secret hides it no more than what is in it."""
        for secret in ("abcd", "+ab+cd+", "é-é-é-", "ab=cdef"):
            assert Scrubber([secret]).text(f"x{secret}y{secret}") == f"x{MASK}y{MASK}"

    def test_short_secrets_leave_words_alone(self) -> None:
        """A secret of one letter cannot be hidden, and must not make logs unreadable."""
        assert Scrubber(["a", ""]).text("a task") == "a task"


class Broken(io.StringIO):
    """A stream that fails a number of times."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error, self.times = error, times

    def write(self, text: str) -> int:
        if self.times:
            self.times -= 1
            raise self.error
        return super().write(text)


class TestOutput:
    @pytest.mark.parametrize(
        "error",
        [
            BrokenPipeError(),
            OSError(errno.ENOSPC, "No space left on device"),
            ValueError("I/O operation on closed file"),
        ],
    )
    def test_never_raises(self, error: Exception) -> None:
        """The line is lost; the next one is tried again."""
        stream = Broken(error, 1)
        telemetry.configure(stream=stream)
        structlog.get_logger().info("lost")
        structlog.get_logger().info("written")
        assert "lost" not in stream.getvalue()
        assert "written" in stream.getvalue()

    def test_text_that_cannot_be_encoded(self) -> None:
        """Lone surrogates, and terminals that know ASCII only."""
        raw = io.BytesIO()
        telemetry.configure(stream=io.TextIOWrapper(raw, encoding="ascii"))
        structlog.get_logger().info("x", text="é\ud800")
        assert rb"\xe9\ud800" in raw.getvalue()

    def test_reader_that_goes_away(self) -> None:
        """`mainstem run | head -1` goes on running, and ends as if nothing had happened."""
        program = (
            "import structlog, sys; from gateway import telemetry; telemetry.configure()\n"
            "log = structlog.get_logger('test'); log.info('first'); sys.stdin.readline()\n"
            "for _ in range(100): log.info('nobody reads this')\n"
            "sys.stderr.write('alive')\n"
        )
        read, write = os.pipe()
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE
        ) as process:
            os.close(write)
            assert b"first" in os.read(read, 4096)
            os.close(read)
            _, errors = process.communicate(b"go\n", timeout=30)
        assert (process.returncode, errors) == (0, b"alive")
