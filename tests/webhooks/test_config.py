"""What an endpoint's configuration accepts, and that errors repeat no values."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.webhooks import guard
from gateway.webhooks.config import EndpointConfig
from schemas.filter import Filter
from tests.webhooks.fakes import SECRET


def build(**more: Any) -> EndpointConfig:
    return EndpointConfig.model_validate(
        {"name": "hook", "url": "https://example.com/h?k=s3cr3t", "secret": SECRET} | more
    )


def header_problems(headers: Any) -> dict[str, str]:
    """Header → what is wrong with it, "" for all of them together."""
    with pytest.raises(ValidationError) as caught:
        build(headers=headers)
    found = {error["loc"]: error["msg"] for error in caught.value.errors()}
    assert {loc[0] for loc in found} == {"headers"}
    return {"".join(map(str, loc[1:])): text for loc, text in found.items()}


def test_defaults() -> None:
    """Name, URL and secret are enough; the rest is as the contract says."""
    made = build()
    assert made.timeout == 15
    assert made.retry_schedule[:2] == (5, 300)
    assert len(made.retry_schedule) == 9
    assert made.progress == "every"
    assert made.enabled
    assert not made.allow_private
    assert not made.allow_http
    assert made.where == Filter()
    assert made.keys == (bytes(range(32)),)


def test_filters_are_strings_or_lists() -> None:
    """Filters are written as on the stream, one value or several."""
    made = build(type="task.*", source=["studio", "jobs"], status="failed", kind="k", task="jobs/1")
    assert made.where == Filter(type=("task.*",), source=("studio", "jobs"), status="failed", kind="k", task="jobs/1")


def test_text_is_split_at_commas() -> None:
    """As in the query of the stream, blanks around a part left out; an item of a list is taken as it is, so that one with a comma is refused where no value
    can have any, instead of matching nothing."""
    made = build(type="task.succeeded, task.failed ", kind=["a,b"], task=["jobs/1,2"])
    assert (made.type, made.kind, made.task) == (("task.succeeded", "task.failed"), ("a,b",), ("jobs/1,2",))
    for name in ("type", "status", "source"):
        with pytest.raises(ValidationError, match="a value has a comma") as caught:
            build(**{name: ["a,b", "c"]})
        assert caught.value.errors()[0]["loc"] == (name,)


@pytest.mark.parametrize("value", ["", "a,,b", "a, ,b", ["a", ""], [7], {"a": 1}])
def test_bad_filters(value: Any) -> None:
    """Empty and odd values are refused under the key they stand at."""
    with pytest.raises(ValidationError) as caught:
        build(type=value)
    assert caught.value.errors()[0]["loc"] == ("type",)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https:///x", "example.com", "https://u:p@example.com/",
        "https://u@example.com/", "https://:p@example.com/", "https://example.com/#f", "https://example.com:0/",
        "https://example.com:99999/", "https://example.com/a b", "https://example.com/\r\nX: y", "https://ex\u00e4mple.com/",
        "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "https://localhost/", "https://10.0.0.1/",
        "https://0x7f000001/", "https://2130706433/", "https://[::ffff:127.0.0.1]/", "https://" + "a" * 64 + ".com/",
        "https://a..b/", "https://" + "a." * 130 + "com/", "http://8.8.8.8/", "https://[::1", "", "https://x/" + "a" * 2048,
    ],
)  # fmt: skip
def test_bad_urls(url: str) -> None:
    """URLs that cannot or must not be delivered to are refused at once."""
    with pytest.raises(ValidationError):
        build(url=url)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("https://example.com", {}), ("https://example.com.:8443/x?y=%20", {}), ("https://8.8.8.8/", {}),
        ("http://example.com/", {"allow_http": True}), ("http://8.8.8.8/", {"allow_http": True}),
        ("http://127.0.0.1:8080/", {"allow_private": True}), ("http://receiver:8080/", {"allow_private": True}),
        ("https://10.0.0.1/", {"allow_private": True}), ("http://[fd00::1]/", {"allow_private": True}),
        ("http://localhost/", {"allow_private": True}), ("https://[2606:4700:4700::1111]/", {}),
    ],
)  # fmt: skip
def test_good_urls(url: str, more: dict[str, Any]) -> None:
    """Plain HTTP needs one of the two permissions, a private address needs its own."""
    assert build(url=url, **more).url == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        # a character that a URL cannot have, or a % that means nothing, would have to be guessed at by somebody
        *((f"https://example.com/{text}", "has to be percent-encoded") for text in (
            "%", "%zz", "?a=b%", "%4", "a|b", "{id}", '"', "<>", "\\\\a", "a^b", "`", "\u00e4", "a b", "\x00", "\x7f",
        )),
        # hosts that one reader takes for another host than the next one
        ("https://127.0.0.1%2e/", "the host is not a host name"), ("https://8.8.8.8%00.test/", "the host is not a host name"),
        ("https://exa%6dple.com/", "the host is not a host name"), ("https://a,b/", "the host is not a host name"),
        ("https://example.com../", "the host is not a host name"), ("https://.example.com/", "the host is not a host name"),
        ("https://[::1/", "not an IPv6 address"), ("https://]/", "the host is not a host name"),
        ("https://:443/", "the host is not a host name"),
        ("https://[v1.a]/", "not an IPv6 address"), ("https://[8.8.8.8]/", "not an IPv6 address"),
        ("https://[]/", "not an IPv6 address"), ("https://[::1]x/", "not an IPv6 address"),
        ("https://[fe80::1%25lo]/", "with a zone"), ("https://[fe80::1%lo]/", "with a zone"),
        ("https://[2606:4700:4700::1111%1]/", "with a zone"),
        *((f"https://example.com:{port}/", "the port is not a number") for port in ("+80", "-1", "0", "65536", "8_0", "x")),
        ("https://[::1]:+80/", "the port is not a number"), ("https://example.com:80:80/", "the port is not a number"),
        *((f"https://{user}@example.com/", "user information") for user in ("", ":", "u", "u:p", "a@b")),
        ("https://example.com/#", "a fragment is never sent"), ("https://example.com#f", "a fragment is never sent"),
        ("https:/example.com/", "must start with"), ("//example.com/", "must start with"), (" https://a/", "must start with"),
    ],
)  # fmt: skip
def test_what_is_no_url(url: str, why: str) -> None:
    """A URL is sent as it is written, so it has to be one, and everybody has to read the same host in it."""
    with pytest.raises(ValidationError, match=re.escape(why)) as caught:
        build(url=url, allow_private=True)
    assert caught.value.errors()[0]["loc"] == ("url",)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("HTTPS://Example.COM/A", "example.com", 443), ("https://xn--exmple-cua.com:08443", "xn--exmple-cua.com", 8443),
        ("https://example.com:/", "example.com", 443), ("http://a_b:80/", "a_b", 80), ("https://a.b.:1/", "a.b.", 1),
        ("https://[2606:4700:4700:0:0:0:0:1111]:8443?x", "2606:4700:4700::1111", 8443),
        ("http://[::ffff:10.0.0.1]/", "::ffff:a00:1", 80), ("http://10.0.0.1", "10.0.0.1", 80),
    ],
)  # fmt: skip
def test_the_host_that_is_judged_is_dialled(monkeypatch: pytest.MonkeyPatch, url: str, host: str, port: int) -> None:
    """However the URL spells it, the guard sees what the connection is made to."""
    judged = []
    monkeypatch.setattr(guard, "host_objection", lambda host, **_: judged.append(host))
    target = build(url=url, allow_private=True).target
    assert (judged, target.raw_host, target.port) == ([host], host, port)


def test_http_to_a_name_is_for_private_addresses_only() -> None:
    """What a name stands for shows when it is dialled: the permission goes along."""
    assert build(url="http://receiver/", allow_private=True).private_only
    assert not build(url="http://receiver/", allow_private=True, allow_http=True).private_only
    assert not build(allow_private=True).private_only


@pytest.mark.parametrize(
    "name",
    [
        "webhook-id", "Webhook-Signature", "ce-id", "Host", "Content-Type", "content-length", "Connection", "Keep-Alive",
        "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Proxy-Authorization", "traceparent", "tracestate", "User-Agent",
        "Accept-Encoding", "Expect", "svix-id", "Svix-Signature", "Webhook_Id", "WEBHOOK_SIGNATURE", "Webhook.Timestamp",
        "Content_Length", "User_Agent", "svix_id", "ce_id",
    ],
)  # fmt: skip
def test_reserved_headers(name: str) -> None:
    """User headers can replace none of ours, nor change how the request is read; not even for a receiver behind CGI, who is
    given `Webhook_Id` under the name of `webhook-id`, nor for one that looks for Svix's names first."""
    assert header_problems({name: "x"}) == {name: "is reserved"}


@pytest.mark.parametrize("name", ["bad name", "bad:name", "", "x\r\ny", "\u00e9", "x" * 129])
def test_bad_header_names(name: str) -> None:
    """A name cannot end the name."""
    assert header_problems({name: "x"})[name].startswith("is no header name")


def test_each_bad_header_is_named() -> None:
    """One round of mending is enough: a problem with one header hides none of another, of whatever kind, nor their number."""
    given = {
        "Ok": "fine",
        "Host": "x",
        "X-A": 5,
        "X-B": "a\nb",
        "ok": "again",
        "X-C": ["a"],
        "a b": None,
        "Webhook_Id": 7,
    }
    assert header_problems(given) == {
        "Host": "is reserved",
        "X-A": "must be text; put it in quotes",
        "X-B": "must be at most 4096 printable ASCII characters on one line, without blanks around them",
        "ok": "is given twice",
        "X-C": "must be text",
        "a b": "is no header name: these are 1 to 128 letters, digits and !#$%&'*+-.^_`|~",
        "Webhook_Id": "is reserved",
    }
    many = {f"x-{number}": "x" for number in range(32)}
    assert len(build(headers=many).headers) == 32
    assert header_problems(many | {"te": "x"}) == {"te": "is reserved", "": "must have at most 32 items"}


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0b", "\u00e9", " a", "a ", "x" * 4097])
def test_bad_header_values(value: str) -> None:
    """A header's value cannot begin another header."""
    with pytest.raises(ValidationError):
        build(headers={"x-a": value})


def test_headers() -> None:
    """Other headers are taken, once each."""
    made = build(headers={"Authorization": "Bearer abc", "x-empty": ""})
    assert made.headers["Authorization"].get_secret_value() == "Bearer abc"
    with pytest.raises(ValidationError, match="twice"):
        build(headers={"X-A": "1", "x-a": "2"})


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""}, {"name": "a b"}, {"name": "x" * 65}, {"secret": ""}, {"secret": "whsec_"}, {"retry_schedule": [-1]},
        {"retry_schedule": [float("nan")]}, {"retry_schedule": [1e9]}, {"retry_schedule": [1] * 33}, {"timeout": 0},
        {"timeout": 121}, {"concurrency": 0}, {"concurrency": 257}, {"rate_limit": 0}, {"progress": "some"}, {"what": 1},
    ],
)  # fmt: skip
def test_bounds(more: dict[str, Any]) -> None:
    """Everything has bounds, and unknown keys are errors."""
    with pytest.raises(ValidationError):
        build(**more)


@pytest.mark.parametrize("name", ["a", "7", "a.b-c_d", "A" * 64])
def test_good_names(name: str) -> None:
    assert build(name=name).name == name


def test_no_secret_shows() -> None:
    """Neither the configuration's text nor an error about it contains a secret, a header's value or the URL's query."""
    made = build(headers={"Authorization": "Bearer t0ken"})
    with pytest.raises(ValidationError) as caught:
        build(headers={"Authorization": "Bearer t0ken\n"}, secret=SECRET[:-4], url="http://example.com/?k=s3cr3t")
    for text in (repr(made), str(made), str(caught.value), repr(caught.value)):
        for secret in ("t0ken", SECRET[6:30], "s3cr3t"):
            assert secret not in text
