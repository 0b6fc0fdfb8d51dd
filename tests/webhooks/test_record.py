"""What is kept of an endpoint, and which settings hold."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import Invalid
from gateway.webhooks import record, signing
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.record import Former, Notice, Record, Replay, Revival
from tests.webhooks.fakes import SECRET, config

OTHER, THIRD = (signing.encode_secret(bytes(range(start, start + 32))) for start in (32, 64))

#: RFC 7396, appendix A, as far as the target is an object.
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), MERGES)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    """The examples of the standard; what was given is not changed."""
    before = repr((target, patch))
    assert record.merge(target, patch) == result
    assert repr((target, patch)) == before


@pytest.mark.parametrize(("target", "patch", "result"), MERGES)
def test_patches_add_up(target: Any, patch: Any, result: Any) -> None:
    """Two patches made one do what they do one after the other."""
    both = record.merge({"z": 1, "a": {"b": None}}, patch, keep=True)
    assert record.merge(target, both) == record.merge(record.merge(target, {"z": 1, "a": {"b": None}}), patch)


def test_records_come_back() -> None:
    """Everything that is kept survives being stored; a record of nothing is small."""
    kept = Record(
        {"name": "hook"}, {"url": None}, "f", "s", [Former("s", 1.5)], "gone", 2.5, 3.0, Replay(7, 3.5),
        Revival(8, 4.5), [Notice("i", "webhook.test", 5.5, {"a": [1]})], True, 9, True,
    )  # fmt: skip
    assert record.decode(record.encode(kept)) == kept
    assert record.encode(Record()) == b"{}"


def test_settings_come_back() -> None:
    """Settings made plain and read again are the same configuration, secrets included."""
    one = config(headers={"X-A": "a"}, type=["task.*"], retry_schedule=[1], rate_limit=2.5, enabled=False)
    settings = record.settings_of(one)
    assert settings["secret"] == SECRET
    assert "timeout" not in settings
    assert record.validated(settings) == one
    assert set(record.secrets_of(settings)) == {SECRET, SECRET[6:], "a"}


def layered(file: EndpointConfig, patch: dict[str, Any], **more: Any) -> Record:
    """A record with what the API changed while the file said that."""
    prints = record.fingerprint(file), record.secret_fingerprint(file)
    return Record(patch=patch, fingerprint=prints[0], secret_fingerprint=prints[1], **more)


def test_fingerprint() -> None:
    """It tells any change of the definition but of the secret, which has its own, and nothing of what is in it."""
    names = {record.fingerprint(one) for one in (config(), config(timeout=3), config(headers={"X-A": "a"}))}
    assert len(names) == 3
    assert record.fingerprint(config()) == record.fingerprint(config(timeout=15, secret=OTHER))
    assert record.secret_fingerprint(config()) == record.secret_fingerprint(config(timeout=3))
    assert record.secret_fingerprint(config()) != record.secret_fingerprint(config(secret=OTHER))
    assert not any(SECRET[6:12] in name for name in (*names, record.secret_fingerprint(config())))


def test_layer_gives_way_where_the_file_was_edited() -> None:
    """An edit of a setting takes back the settings that the API changed and leaves a rotated secret; an edit of the secret
    takes back the secret alone."""
    file = config(timeout=3)
    patch = {"timeout": 7, "secret": OTHER}
    former = [Former(SECRET, 100.0)]
    for edited, now, timeout, secret, kept_former in [
        (file, 0.0, 7, OTHER, former),
        (config(timeout=4), 0.0, 4, OTHER, former),
        (config(timeout=3, secret=OTHER), 0.0, 7, OTHER, former),  # the rotated one is in the file now
        (config(timeout=3, secret=THIRD), 0.0, 7, THIRD, [Former(OTHER, 100.0), *former]),
        (config(timeout=4, secret=THIRD), 100.0, 4, THIRD, []),  # the overlap is over
    ]:
        kept = layered(file, patch, former=former)
        assert record.is_overruled(edited, kept) == (edited != file)
        before = record.effective(edited, kept)
        assert (before.timeout, before.secret.get_secret_value()) == (timeout, secret)
        dropped = record.overrule(edited, kept, now)
        assert dropped == sorted(patch.keys() - (kept.patch or {}).keys())
        assert record.effective(edited, kept) == before
        assert kept.former == kept_former
        assert not record.is_overruled(edited, kept)


def test_effective() -> None:
    """The file's definition with the layer over it, or the record's own settings."""
    assert record.effective(config(), Record()) == config()
    file = config(timeout=3)
    assert record.effective(file, layered(file, {"timeout": None, "concurrency": 2})) == config(concurrency=2)
    assert record.effective(None, Record(settings=record.settings_of(config(timeout=3)))) == config(timeout=3)
    with pytest.raises(Invalid, match="timeout"):
        record.effective(file, layered(file, {"timeout": -1}))
    with pytest.raises(ValueError, match="without a definition"):
        record.effective(None, Record())


def test_each_bad_header_is_a_field() -> None:
    """Whoever sends headers through the API is told of each one at its own field, as of any other setting."""
    with pytest.raises(Invalid) as invalid:
        record.validated(
            record.settings_of(config())
            | {"timeout": 0, "headers": {"Host": "x", "X-A": 5, "X-B": "a\nb", "X-C": "fine"}}
        )
    assert invalid.value.errors == {
        "timeout": "must be greater than 0",
        "headers.Host": "is reserved",
        "headers.X-A": "must be text; put it in quotes",
        "headers.X-B": "must be at most 4096 printable ASCII characters on one line, without blanks around them",
    }
