"""Filters that can match nothing are told."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.webhooks import doubts
from schemas.filter import Filter

SOURCES = ["studio", "jobs"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"type": ["task.succeeded", "task.*", "*", "webhook.test", "source.g*"], "status": ["failed"]}, []),
        ({"source": ["jobs"], "task": ["studio/a/b"], "kind": ["whatever"]}, []),
        ({"status": ["sucess"]}, [("status", "no task has the status 'sucess'")]),
        ({"status": ["suceeded"]}, [("status", "no task has the status 'suceeded'; did you mean 'succeeded'?")]),
        ({"type": ["task.suceeded"]}, [("type", "no event has the type 'task.suceeded'; did you mean 'task.succeeded'?")]),
        ({"type": ["tsk.*"]}, [("type", "no event has a type that begins with 'tsk.'")]),
        ({"source": ["job"]}, [("source", "there is no source 'job'; did you mean 'jobs'?")]),
        ({"task": ["t1"]}, [("task", "'t1' is no task key: these are <source name>/<task id>")]),
        ({"task": ["job/t1"]}, [("task", "'job/t1': there is no source 'job'; did you mean 'jobs'?")]),
    ],
)  # fmt: skip
def test_what_matches_nothing(where: dict[str, Any], said: list[tuple[str, str]]) -> None:
    """Each slip with what may have been meant; what can match is left alone."""
    found = list(doubts.of(Filter(**where), SOURCES))
    assert [(field, text.partition("; known:")[0]) for field, text in found] == said


def test_any_source_may_be_meant_where_none_is_known() -> None:
    """What a status, a type and a task key look like is known everywhere."""
    where = Filter(source=["job"], task=["job/t1", "t1"], status=["bogus"], type=["tsk.*"])
    assert [field for field, _ in doubts.of(where)] == ["status", "type", "task"]
