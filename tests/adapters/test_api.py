"""The adapter interface: URLs, and what an adapter is that adds nothing of its own."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import ValidationError

from adapters.api import Adapter, Item, Rejected, Request, Resume, Session, SourceConfig, Stream, check_http_url


class Plain(Adapter[SourceConfig]):
    """The least that an adapter can be."""

    Config: ClassVar[type[SourceConfig]] = SourceConfig

    def streams(self) -> list[Stream]:
        return [Stream(key="a", path="/a")]

    def open(self, stream: Stream, resume: Resume, ticket: bytes | None) -> Session:
        return PlainSession()


class PlainSession(Session):
    """The least that a session can be."""

    def request(self) -> Request:
        return Request(url="wss://user:pw@up:1234/a?key=s3cret")

    def on_frame(self, frame: str | bytes) -> list[Item]:
        return []


def plain(**options: object) -> Plain:
    return Plain(SourceConfig.model_validate({"name": "a", "adapter": "plain", "url": "wss://up/base/", **options}))


def test_an_adapter_needs_no_more_than_streams_and_sessions() -> None:
    """Every ability beyond that is optional, and its absence has a meaning."""
    adapter, stream = plain(), Stream(key="a", path="/a")
    connection = adapter.open(stream, Resume(first=True, now="2026-01-01T00:00:00Z"), None)
    connection.on_settled()
    assert connection.cursor is None
    assert connection.secrets() == []
    assert connection.on_close(1000, "") == "retry"
    assert adapter.secrets() == []
    for nothing in (
        adapter.authorize(stream),
        adapter.watch("x"),
        adapter.lookup("x"),
        adapter.listing(stream, 0),
        adapter.probe("x"),
        adapter.download("x"),
    ):
        assert nothing is None
    assert adapter.on_lookup("x", b"") == adapter.on_listing(b"") == []
    assert isinstance(adapter.created(b"")[0], Rejected)
    assert isinstance(adapter.on_download(b""), Rejected)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, "refused"),
        (401, "refused"),
        (403, "refused"),
        (404, "refused"),
        (429, "slow_down"),
        (500, "retry"),
        (200, "retry"),
    ],
)
def test_what_a_refused_handshake_means(status: int, verdict: str) -> None:
    """What will not get better by trying again is not tried again."""
    assert plain().refusal(status) == verdict


def test_documented_paths_stand_below_the_given_base() -> None:
    """REST is at `rest_url`, or at the same place with http for ws."""
    config = plain().config
    assert config.ws("/x", {"a": "b c"}) == "wss://up/base/x?a=b+c"
    assert config.ws("/x") == "wss://up/base/x"
    assert config.rest("/x") == "https://up/base/x"
    assert plain(rest_url="http://rest").config.rest("/x", {"a": "1"}) == "http://rest/x?a=1"


def test_what_is_shown_of_a_request_has_no_secret() -> None:
    """The path for events and logs, the origin without user and password."""
    request = PlainSession().request()
    assert (request.endpoint, request.origin) == ("/a", "wss://up:1234")
    assert "s3cret" not in repr(request)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "https://up"}, {"url": "wss://"}, {"url": "wss://up:x"}, {"url": "wss://up?a=b"}, {"url": "wss://up#a"},
        {"rest_url": "wss://up"}, {"name": "a/b"}, {"ping_interval": 0}, {"reconnect": {"max": -1}}, {"other": 1},
    ],
)  # fmt: skip
def test_a_wrong_section_is_an_error(options: dict[str, object]) -> None:
    """Bases are bases, names are part of keys, unknown keys are typing errors."""
    with pytest.raises(ValidationError):
        plain(**options)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "https://u:p@x/"])
def test_a_full_url_is_checked(url: str) -> None:
    """`auth_url` and its kind: http or https, a host, no credentials in it."""
    with pytest.raises(ValueError, match="must"):
        check_http_url(url)
