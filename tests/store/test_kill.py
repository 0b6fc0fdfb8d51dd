"""`kill -9` at any moment: what was acknowledged is there, and nothing is there by halves."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from gateway.clock import SystemClock
from gateway.store.sqlite import SqliteStore

from .samples import read

CHILD = """
import asyncio, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.store.api import BODY_HEAD, NO_SEQUENCE, Batch, Draft, TaskRow
from gateway.store.sqlite import SqliteStore

BODY = BODY_HEAD + NO_SEQUENCE.encode() + b'","data":"' + b"x" * 500 + b'"}'

async def main():
    store = SqliteStore(Path(sys.argv[1]), clock=SystemClock())
    await store.open()
    number = int((await store.cursors("s")).get("a", b"0"))

    async def one(number):
        drafts = [Draft(f"{number}.{k}", "task.progressed", "s", "s/1", None, "running", 1.0, BODY) for k in range(3)]
        row = TaskRow("s", "1", None, "running", False, None, None, 1.0, b"%d" % number)
        await store.append(Batch(drafts, [row], {("s", "a"): b"%d" % number}))
        print(number, flush=True)

    while True:
        await asyncio.gather(*(one(number + k) for k in range(1, 9)))
        number += 8

asyncio.run(main())
"""


async def test_kill_at_any_moment(tmp_path: Path) -> None:
    """Rounds of append and kill: acknowledged batches are all there, whole, once; cursor and state agree with the log."""
    path = tmp_path / "log.db"
    chance = random.Random(7)
    epochs = set()
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  # it is watched by blocking reads
        assert child.stdout is not None
        acknowledged = 0
        for _ in range(chance.randrange(1, 120)):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        # what it said before it died counts as well
        for line in child.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                acknowledged = int(line)
        child.stdout.close()
        child.wait(timeout=30)

        store = SqliteStore(path, clock=SystemClock())
        await store.open()
        epochs.add(store.epoch)
        events = await read(store, 0, 100_000)
        cursor = int((await store.cursors("s"))["a"])
        [state] = await store.tasks("s", ["1"])
        await store.close()
        assert cursor >= acknowledged
        assert [event.id for event in events] == [f"{n}.{k}" for n in range(1, cursor + 1) for k in range(3)]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert (state.state, state.sequence) == (b"%d" % cursor, len(events))
    assert len(epochs) == 1
