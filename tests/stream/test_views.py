"""What each scope sees of each event."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.stream import framing, views
from gateway.stream.index import predicate
from schemas import event as schema
from schemas.filter import Filter
from tests.stream.fakes import event, task_data

HIDDEN = ("input", "result", "error", "native")


@pytest.mark.parametrize("kind", schema.TASK_TYPES)
@pytest.mark.parametrize("redacts", [False, True])
def test_every_type_in_every_scope(kind: str, redacts: bool) -> None:
    """`events:read` sees all; `events:read:progress` loses exactly what the contract lists, and nothing else changes."""
    body = event(7, kind).body
    whole = json.loads(body)
    form = framing.form_of(framing.WEBSOCKET, redacts=redacts)
    seen = json.loads(form.view(body))
    schema.validate(seen)
    if not redacts:
        assert seen == whole
        return
    expected = json.loads(body)
    data = expected["data"]
    for name in HIDDEN:
        data[name] = None
    data["task"]["attempt"] = data["task"]["cost_credits"] = None
    data["redacted"] = True
    data["changed"] = ["status", "progress"]
    if kind == "task.progressed":
        data["changed"].append("detail")
    else:
        data["detail"] = None
    assert seen == expected
    for word in ("secret-input", "secret-result", "secret-error", "secret-native"):
        assert word.encode() not in form.view(body)


@pytest.mark.parametrize("kind", schema.SOURCE_TYPES)
def test_source_notices_are_for_events_read(kind: str) -> None:
    """`source.*` is visible to `events:read` within the token's sources, never to the progress scope."""
    notice = event(1, kind, None)
    everything = Filter()
    assert predicate(everything, everything, redacts=False)(notice)
    assert predicate(everything, Filter(source=("studio",)), redacts=False)(notice)
    assert not predicate(everything, Filter(source=("jobs",)), redacts=False)(notice)
    assert not predicate(everything, everything, redacts=True)(notice)
    assert not predicate(Filter(source=("studio",)), Filter(), redacts=True)(notice)


def test_full_is_identity() -> None:
    """The full view sends the stored bytes themselves."""
    body = event(1, "task.started").body
    assert views.full(body) is body


def test_unknown_fields_do_not_pass() -> None:
    """A field that nobody decided about is hidden from the progress scope."""
    data = task_data("studio", "1", "running", secret_new=1)
    data["task"]["secret_new"] = 1
    assert b"secret_new" not in views.redact_data(json.dumps(data).encode())


def test_every_known_field_passes() -> None:
    """The view knows every field of the schema of record, so none is lost by accident."""
    seen = json.loads(views.redact_data(json.dumps(task_data("studio", "1", "running")).encode()))
    assert set(seen) == set(schema.TaskData.model_fields)
    assert set(seen["task"]) == set(schema.Task.model_fields)


def test_what_is_no_task_event_is_refused() -> None:
    """A body of another shape raises instead of passing."""
    with pytest.raises(msgspec.DecodeError):
        views.redact(event(1, "source.gap", None).body)
