"""Task state: what news means. Properties that must hold whatever an upstream sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from adapters.api import Observation
from gateway.pipeline import encode, tasks
from gateway.pipeline.tasks import Verdict
from schemas.event import FINISHED
from tests.adapters.kit import Gateway, emit, session, sse, triverse, types
from tests.adapters.test_emit import message
from tests.adapters.test_triverse import state

STATUSES = ["PENDING", "QUEUED", "RUNNING", "SUCCESS", "FAILED", "CANCELLED"]
frames = st.builds(
    lambda status, progress, output: sse(state(status, progress=progress, output=output)),
    st.sampled_from(STATUSES),
    st.sampled_from([None, 0, 10, 50]),
    st.sampled_from([None, {"a": 1}, {"a": 2}]),
)
emit_messages = st.builds(
    lambda kind, second, percent: json.dumps(
        message(
            kind,
            "running",
            f"2025-02-24T10:00:{second:02}.000Z",
            data={"percent": percent} if kind == "progress" else None,
        )
    ),
    st.sampled_from(
        ["init", "delivered", "acked", "progress", "checkpoint", "completed", "retried", "dead", "delivery_timeout"]
    ),
    st.integers(0, 9),
    st.integers(0, 3),
)


@given(st.lists(frames))
def test_ids_of_states_are_never_shared(conversation: list[str]) -> None:
    """A task that returns to an earlier state is a new occurrence."""
    events = Gateway(triverse()).frames(session(triverse()), *conversation)
    assert len({event["id"] for event in events}) == len(events)


@given(st.lists(frames))
def test_the_same_conversation_has_the_same_ids(conversation: list[str]) -> None:
    """A second replica, or a restart from nothing."""
    runs = [Gateway(triverse()).frames(session(triverse()), *conversation) for _ in range(2)]
    assert runs[0] == runs[1]


@given(st.lists(frames))
def test_every_frame_twice_is_every_frame_once(conversation: list[str]) -> None:
    """Idempotent: a state identical to the known one publishes nothing."""
    once = Gateway(triverse()).frames(session(triverse()), *conversation)
    twice = Gateway(triverse()).frames(session(triverse()), *[frame for frame in conversation for _ in range(2)])
    assert once == twice


@given(st.lists(frames), st.integers(0, 20))
def test_a_restart_in_between_changes_nothing(conversation: list[str], cut: int) -> None:
    """What the store keeps of a task is all that is needed to go on."""
    whole = Gateway(triverse()).frames(session(triverse()), *conversation)
    gateway = Gateway(triverse())
    events = gateway.frames(session(triverse()), *conversation[:cut])
    for key, known in gateway.states.items():
        gateway.states[key] = encode.stored_state(encode.task_row(known, 0))
    assert events + gateway.frames(session(triverse()), *conversation[cut:]) == whole


@given(st.lists(frames))
def test_a_finished_task_stays_finished(conversation: list[str]) -> None:
    """Stale frames are counted and published nowhere."""
    events = Gateway(triverse()).frames(session(triverse()), *conversation)
    over = False
    for event in events:
        finished = event["data"]["task"]["status"] in FINISHED
        assert finished or not over
        over = over or finished


@given(st.lists(frames))
def test_changed_names_exactly_what_differs(conversation: list[str]) -> None:
    """contract, section 1, `changed`."""
    before: dict[str, Any] = {}
    for event in Gateway(triverse()).frames(session(triverse()), *conversation):
        data = event["data"]
        after = {**data["task"], **{name: data[name] for name in ("input", "result", "error")}}
        names = {name for name in after if after[name] != before.get(name, "unknown" if name == "status" else None)}
        assert set(data["changed"]) == names - {"key", "id", "source", "adapter"}
        before = after


@given(st.lists(emit_messages))
def test_occurrences_are_idempotent(conversation: list[str]) -> None:
    """Each message twice in a row publishes what each once does, and ids are never shared by two of a run."""

    def published(messages: list[str]) -> list[str]:
        ids: dict[str, None] = {}
        for event in Gateway(emit()).frames(session(emit(spaces=["s"])), *messages):
            ids[event["id"]] = None  # the log leaves out what it has
        return list(ids)

    assert published(conversation) == published([frame for frame in conversation for _ in range(2)])


@given(st.permutations(["delivered", "acked", "progress", "checkpoint", "completed"]))
def test_a_life_ends_the_same_in_any_order(order: list[str]) -> None:
    """Order-safe: what is published may differ, how the task ended does not."""
    seconds = {"delivered": 1, "acked": 2, "progress": 3, "checkpoint": 4, "completed": 5}
    gateway = Gateway(emit())
    messages = [json.dumps(message(kind, "running", f"2025-02-24T10:00:0{seconds[kind]}Z")) for kind in order]
    events = gateway.frames(session(emit(spaces=["s"])), *messages)
    (final,) = gateway.states.values()
    assert final.task.status == "succeeded"
    assert types(events).count("task.succeeded") == 1


def test_two_streams_that_show_one_task_do_not_make_it_jump() -> None:
    """A watch beside `watch all`: the one that lags is no news; once the other is gone it is heard again."""
    gateway, connection = Gateway(triverse()), session(triverse())

    def hear(stream: str, live: set[str], **fields: Any) -> dict[str, Any] | None:
        (item,) = connection.on_frame(sse(state("RUNNING", **fields)))
        assert isinstance(item, Observation)
        return gateway.observe(item, stream, live)

    both = {"all", "task:x"}
    assert hear("all", both, progress=10)
    assert hear("all", both, progress=20)
    assert hear("task:x", both, progress=10) is None
    assert hear("task:x", both, progress=20) is None
    assert gateway.verdicts == [Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert hear("all", both, progress=5) is None  # the watch spoke last: it owns the task now
    assert hear("all", {"all"}, progress=5)


def test_old_ends_are_no_news() -> None:
    """A catch-up that reaches far back shows tasks whose end the log has forgotten long ago."""
    (item,) = session(triverse()).on_frame(sse(state("SUCCESS", completed_at="2026-05-01T00:00:00Z")))
    assert isinstance(item, Observation)
    assert tasks.is_old(item, 1777593601.0)
    assert not tasks.is_old(item, 1777593600.0)
    (running,) = session(triverse()).on_frame(sse(state("RUNNING")))
    assert isinstance(running, Observation)
    assert not tasks.is_old(running, 1e12)


@pytest.mark.parametrize("known", ["SUCCESS", "FAILED"])
def test_another_end_is_published(known: str) -> None:
    """The upstream changed its mind between two ends: the last word counts, and each is its own occurrence."""
    other = {"SUCCESS": "FAILED", "FAILED": "SUCCESS"}[known]
    events = Gateway(triverse()).frames(
        session(triverse()), *[sse(state(word)) for word in (known, other, known, "PAUSED")]
    )
    assert len({event["id"] for event in events}) == len(events) == 4
    assert events[-1]["type"] == "task.updated"
    assert events[-1]["data"]["task"]["status"] in FINISHED


def test_contents_that_come_back_are_new_occurrences() -> None:
    """Output A, B, A, B at one height: four events, four ids; and the memory of it is bounded."""
    outputs = [{"n": number % 2} for number in range(200)] + [{"n": number} for number in range(200)]
    frames_ = [sse(state("RUNNING", progress=1, output=output)) for output in outputs]
    gateway = Gateway(triverse())
    events = gateway.frames(session(triverse()), *frames_)
    assert len({event["id"] for event in events}) == len(events)
    (known,) = gateway.states.values()
    assert len(known.seen) <= 32


def test_values_that_cannot_be_decoded_are_compared_as_written() -> None:
    """A number out of range is passed on as it came; another spelling of it is another value."""

    def ended(number: bytes) -> Observation:
        return Observation(
            task_id="t", native_type="x", payload=Raw(b"{}"), status="running", result=Raw(b"[" + number + b"]")
        )

    gateway = Gateway(emit())
    assert gateway.observe(ended(b"1e999")) is not None
    assert gateway.observe(ended(b"1e999")) is None
    assert gateway.observe(ended(b"1e998")) is not None


def test_a_full_word_ends_the_redaction() -> None:
    """A state that was seen stripped is marked so until something that was stripped is seen."""
    from tests.adapters.test_emit import COMPLETED, DEAD

    gateway = Gateway(emit())
    stripped = {key: value for key, value in DEAD.items() if key != "data"}
    gateway.frames(session(emit(jobs=["01JLQX..."])), json.dumps(stripped))
    (known,) = gateway.states.values()
    assert known.redacted
    gateway.frames(session(emit(spaces=["s"])), json.dumps({**COMPLETED, "timestamp": "2025-02-24T10:50:00.000Z"}))
    assert not known.redacted


def test_replicas_agree_whatever_progress_one_of_them_missed() -> None:
    """A start that one replica saw at 0 % and another, by catch-up, at 8 %, is one start; progress that fell is no other run."""
    seen = [
        state("PENDING"),
        state("RUNNING", progress=0),
        state("RUNNING", progress=8),
        state("RUNNING", progress=5),
        state("SUCCESS"),
    ]
    all_of_it = Gateway(triverse()).frames(session(triverse()), *map(sse, seen))
    some = Gateway(triverse()).frames(session(triverse()), *map(sse, [seen[0], *seen[2:]]))
    ids = {event["type"]: event["id"] for event in all_of_it if event["type"] != "task.progressed"}
    assert {event["type"]: event["id"] for event in some if event["type"] != "task.progressed"} == ids
