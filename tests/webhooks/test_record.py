"""What is kept of an endpoint, and which settings hold."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import Invalid
from gateway.webhooks import record
from gateway.webhooks.record import Former, Notice, Record, Replay, Revival
from tests.webhooks.fakes import SECRET, config

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
        {"name": "hook"}, {"url": None}, "f", [Former("s", 1.5)], "gone", 2.5, Replay(7, 3.5), Revival(8, 4.5),
        [Notice("i", "webhook.test", 5.5, {"a": [1]})], True,
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


def test_fingerprint() -> None:
    """It tells any change of the definition, and nothing of what is in it."""
    names = {record.fingerprint(one) for one in (config(), config(timeout=3), config(headers={"X-A": "a"}))}
    assert len(names) == 3
    assert record.fingerprint(config()) == record.fingerprint(config(timeout=15))
    assert not any(SECRET[6:12] in name for name in names)


def test_effective() -> None:
    """The file's definition with the layer over it, or the record's own settings."""
    assert record.effective(config(), Record()) == config()
    assert record.effective(config(timeout=3), Record(patch={"timeout": None, "concurrency": 2})) == config(
        concurrency=2
    )
    assert record.effective(None, Record(settings=record.settings_of(config(timeout=3)))) == config(timeout=3)
    with pytest.raises(Invalid, match="timeout"):
        record.effective(config(), Record(patch={"timeout": -1}))
    with pytest.raises(ValueError, match="without a definition"):
        record.effective(None, Record())
