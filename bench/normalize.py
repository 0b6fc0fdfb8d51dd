"""CPU time per event from frame to canonical bytes: decode, map, compare with the known state, encode; without any I/O.

Reference: orjson loads and dumps of the same frames, which is what passing them on unread would cost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import orjson

from adapters.api import Adapter, Observation, Resume
from adapters.catalyst import Catalyst, CatalystConfig
from adapters.emit import Emit, EmitConfig
from adapters.triverse import Triverse, TriverseConfig
from bench.report import Row, rounds
from gateway.pipeline import encode, tasks

_FIRST = Resume(first=True, now="2026-05-27T00:00:00Z")
_RECEIVED = "2026-05-27T00:00:00.000000Z"
_ROUNDS = 7


def _triverse_frames() -> list[str]:
    """The documented message, of 100 tasks that run from 0 to 100 percent."""
    frames = []
    for progress in range(100):
        for task in range(100):
            payload = {
                "task_uuid": f"92483a80-236c-4889-9a95-4c90bb64{task:04}", "flow_name": "image-to-model", "status": "RUNNING",
                "progress": progress, "created_at": "2026-05-27T00:00:00Z", "started_at": "2026-05-27T00:00:12Z",
                "completed_at": None, "input": {"image_url": "https://assets.example/tasks/input.png", "model_version": "v2"},
                "output": None, "error": None,
                "queue": {"is_queued": False, "position": None, "estimated_wait_seconds": None},
            }  # fmt: skip
            frames.append(f"event: update\ndata: {json.dumps(payload)}\n\n")
    return frames


def _emit_frames() -> list[str]:
    """The documented progress message, of 100 jobs."""
    return [
        json.dumps({
            "jobId": f"01JLQX0000000000000000{job:04}", "jobName": "process-video", "type": "progress", "status": "running",
            "data": {"percent": percent, "step": "encoding", "fps": 30},
            "timestamp": f"2025-02-24T10:{percent // 60:02}:{percent % 60:02}.{job:03}Z",
        })
        for percent in range(100)
        for job in range(100)
    ]  # fmt: skip


def _catalyst_frames() -> list[str]:
    """Frames of 1,000 items."""
    return [
        json.dumps([
            {
                "task_id": task, "object_class_id": task % 7, "event": "task_value_changed",
                "timestamp": f"2025-01-16T11:{frame:02}:57.{task:06}+00:00",
            }
            for task in range(1000)
        ])
        for frame in range(10)
    ]  # fmt: skip


def _whole(adapter: Adapter, frames: list[str]) -> Callable[[], float]:  # type: ignore[type-arg]  # any adapter
    def measure() -> float:
        session = adapter.open(adapter.streams()[0], _FIRST, None)
        states: dict[str, tasks.State] = {}
        name, kind, count = adapter.config.name, adapter.config.adapter, 0
        begin = time.process_time()
        for frame in frames:
            for item in session.on_frame(frame):
                assert isinstance(item, Observation)
                state, change = tasks.observe(
                    states.get(item.task_id), item, source=name, adapter=kind, stream="s", received_at=_RECEIVED
                )
                if state is not None and isinstance(change, tasks.Change):
                    states[item.task_id] = state
                    encode.task_event(state, change, _RECEIVED)
                    count += 1
        return (time.process_time() - begin) / count * 1e6

    return measure


def _reference(payloads: list[str], items: int) -> Callable[[], float]:
    def measure() -> float:
        begin = time.process_time()
        for payload in payloads:
            orjson.dumps(orjson.loads(payload))
        return (time.process_time() - begin) / items * 1e6

    return measure


def rows() -> list[Row]:
    """One row an upstream."""
    result = []
    base = {"url": "ws://upstream", "name": "bench"}
    triverse, emit, catalyst = _triverse_frames(), _emit_frames(), _catalyst_frames()
    cases = (
        ("Triverse", Triverse(TriverseConfig(adapter="triverse", token="k", **base)), triverse, len(triverse), "≤ 10"),
        ("emit.run", Emit(EmitConfig(adapter="emit", token="k", spaces=("s",), **base)), emit, len(emit), "≤ 6"),
        ("Catalyst item", Catalyst(CatalystConfig(adapter="catalyst", uuid="u", **base)), catalyst, 10_000, "≤ 4"),
    )
    for name, adapter, frames, items, hold in cases:
        payloads = [frame.partition("data: ")[2] or frame for frame in frames]
        ours, reference = rounds(_ROUNDS, _whole(adapter, frames), _reference(payloads, items))
        result.append(Row(f"normalize, {name}", ours, "µs CPU/event", hold, "orjson loads + dumps", reference))
    return result
