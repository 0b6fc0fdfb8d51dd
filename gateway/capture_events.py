"""The canonical events of a capture, and the golden test that they make: a bug report becomes a test by being put in a folder.

    @pytest.mark.parametrize("path", captures(Path(__file__).parent / "captures"), ids=lambda path: path.stem)
    def test_capture(path):
        golden(path)

A capture is `name.capture.jsonl`; the events that were looked at and found right are `name.events.jsonl` beside it, written
anew with `MAINSTEM_GOLDEN=write`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from adapters.api import Observation, Rejected
from gateway import capture, capture_replay
from gateway.pipeline import encode, tasks
from gateway.pipeline.tasks import State, Verdict
from gateway.store.api import NO_SEQUENCE
from schemas import rfc3339
from schemas.stream import position

_CAPTURE, _EVENTS = ".capture.jsonl", ".events.jsonl"
VARIABLE = "MAINSTEM_GOLDEN"


def events(replay: capture_replay.Replay) -> Iterator[tuple[capture_replay.Step, list[str]]]:
    """Each step of a capture with the events it leads to, as lines of JSON numbered from 1. Pure: nothing is stored."""
    states: dict[tuple[str, str], State] = {}
    adapters = {config.name: config.adapter for config in replay.configs}
    number = 0
    for step in replay.steps():
        lines: list[str] = []
        source = step.record.source
        for item in step.items:
            if not isinstance(item, Observation):
                continue
            received_at = rfc3339.render(step.received)
            state, change = tasks.observe(
                states.get((source, item.task_id)),
                item,
                source=source,
                adapter=adapters[source],
                stream=step.stream.key,
                received_at=received_at,
            )
            if state is not None:
                states[source, item.task_id] = state
            if state is None or isinstance(change, Verdict):
                continue
            number += 1
            body = encode.task_event(state, change, received_at).decode()
            lines.append(body.replace(NO_SEQUENCE, position(number), 1))
        yield step, lines


def rejected(step: capture_replay.Step) -> list[str]:
    """What of a step could not be understood, in words."""
    return [f"{item.reason}: {item.problem}" for item in step.items if isinstance(item, Rejected)]


def captures(directory: Path) -> list[Path]:
    """The captures in a directory, for `pytest.mark.parametrize`.

    Raises:
        AssertionError: there is none: a test of nothing passes always.
    """
    found = sorted(directory.glob(f"*{_CAPTURE}"))
    if not found:
        raise AssertionError(f"no *{_CAPTURE} in {directory}")
    return found


def golden(path: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Compares the events of a capture, whole and in order, with those that were found right.

    Raises:
        AssertionError: they differ, or there are none to compare with.
    """
    replay = capture_replay.Replay(capture.read(path))
    lines = [line for _, made in events(replay) for line in made]
    expected = path.with_name(path.name.removesuffix(_CAPTURE) + _EVENTS)
    if environ.get(VARIABLE) == "write":
        expected.write_text("".join(f"{line}\n" for line in lines))
        return
    if not expected.exists():
        raise AssertionError(f"{expected.name} is missing: look at the events, and write it with {VARIABLE}=write")
    right = [json.loads(line) for line in expected.read_text().splitlines()]
    made = [json.loads(line) for line in lines]
    for number, (is_now, was) in enumerate(zip(made, right, strict=False), 1):
        if is_now != was:
            wrong = sorted(key for key in {*is_now, *was} if is_now.get(key) != was.get(key))
            raise AssertionError(f"{expected.name}:{number}: {', '.join(wrong)} differ:\n{is_now}\ninstead of\n{was}")
    if len(made) != len(right):
        raise AssertionError(f"{expected.name}: {len(made)} events instead of {len(right)}")
