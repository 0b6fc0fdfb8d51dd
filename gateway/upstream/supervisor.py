"""Everything that belongs to one configured source: its streams, the watches asked for at run time, its state.

Owns one task per stream and the memory of watches across restarts. A refused stream never stops another one. Must not know
how a stream is kept connected, or which other sources there are.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import structlog

from adapters.api import Adapter, Observation, Stream
from gateway.clock import Clock
from gateway.errors import Refused
from gateway.metrics import Metrics
from gateway.store.api import Store
from gateway.upstream import download
from gateway.upstream.context import FACT, Context, Memory, fact
from gateway.upstream.feed import Feed
from gateway.upstream.intake import Intake
from gateway.upstream.limits import Limits
from gateway.upstream.tapped import Tap
from schemas import rfc3339

log = structlog.get_logger()

_WATCH = FACT + "watch:"
_FINISHED = FACT + "finished"


class Supervisor:
    """Of one source that is enabled. `start` before anything else, `stop` at the end."""

    def __init__(
        self,
        adapter: Adapter[Any],
        intake: Intake,
        store: Store,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        limits: Limits | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.name: str = adapter.config.name
        self._limits = limits or Limits()
        self._context = Context(adapter, intake, store, clock, rng, metrics, self._limits, tap)
        self._feeds: dict[str, Feed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._trouble: str | None = None
        self._told_finished = False
        self._stopping = False
        self._note_change()

    # --- start and stop ---

    async def start(self) -> None:
        """Begins to connect the configured streams, and the watches that an earlier process was asked for.

        Raises:
            StoreError: what is kept across restarts cannot be read.
        """
        rows = await self._context.store.cursors(self.name)
        self._told_finished = fact(rows.get(_FINISHED)) is not None
        for stream in self._context.adapter.streams():
            self._take_up(stream, rows, configured=True)
        for key in rows:
            if key.startswith(_WATCH) and fact(rows[key]) is not None:
                await self._take_up_watch(key.removeprefix(_WATCH), rows)
        await self._settle_finished()

    async def stop(self) -> None:
        """Closes every connection; bounded, idempotent. The intake must still be there."""
        self._stopping = True
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=self._limits.stop)
            for task in left:
                log.warning("stop_overdue", source=self.name, task=task.get_name())
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=self._limits.close)
        self._tasks.clear()
        await self._context.client.close()

    # --- what is known ---

    @property
    def adapter(self) -> Adapter[Any]:
        """What is known of the upstream."""
        return self._context.adapter

    @property
    def trouble(self) -> str | None:
        """Why the source is not ready for good, in words: a configured stream was refused, or its task has died."""
        if self._trouble is not None:
            return self._trouble
        refused = (feed for feed in self._feeds.values() if feed.configured and feed.state == "failed")
        return next((f"{feed.stream.path}: {feed.error}" for feed in refused), None)

    @property
    def state(self) -> str:
        """The worst of the configured streams' states; of the watches' where nothing is configured."""
        if self.trouble is not None:
            return "failed"
        feeds = [feed for feed in self._feeds.values() if feed.configured] or list(self._feeds.values())
        states = {feed.state for feed in feeds} - {"failed"}
        for state in ("retrying", "connecting", "live", "finished"):
            if state in states:
                return state
        return "live"

    def status(self) -> dict[str, Any]:
        """For `GET /v1/sources`."""
        shown = [feed for feed in self._feeds.values() if feed.configured or not feed.over]
        feeds = self._feeds.values()
        errors = (feed.error for feed in shown if feed.error is not None)
        return {
            "name": self.name,
            "adapter": self._context.config.adapter,
            "enabled": True,
            "state": self.state,
            "streams": [
                {
                    "endpoint": feed.stream.path,
                    "state": feed.state,
                    "since": rfc3339.render(feed.since),
                    "last_frame_at": _time(feed.last_frame_at),
                    "reconnects": feed.reconnects,
                    "error": feed.error,
                }
                for feed in shown
            ],
            "last_frame_at": _time(self._context.last_frame_at),
            "reconnects": sum(feed.reconnects for feed in feeds),
            "gaps": sum(feed.gaps for feed in feeds),
            "error": self.trouble or next(errors, None),
        }

    # --- watches ---

    def watches(self) -> list[dict[str, Any]]:
        """For `GET /v1/watches`: every single-task watch, oldest first; those that are over stay listed for a while."""
        return [self._watch_status(feed) for feed in self._feeds.values() if feed.stream.task_id is not None]

    async def watch(self, task_id: str) -> dict[str, Any]:
        """Starts a watch that survives restarts, until its task is finished. A running one is left as it is.

        Returns:
            Its entry in `watches`.

        Raises:
            Refused: the upstream has no such watch or task id, or there are too many.
        """
        stream = self._require_watchable(task_id)
        if (feed := self._running(stream)) is not None:
            return self._watch_status(feed)
        if stream.key in self._tasks:
            await asyncio.wait(
                {self._tasks[stream.key]}, timeout=self._limits.stop
            )  # it is over, and puts its things away
        known = self._feeds.get(stream.key)
        if known is not None and known.configured:
            self._launch(stream, configured=True, memory=known.memory, cursor=None)
            return self._watch_status(self._feeds[stream.key])
        self._require_room()
        # remembered first: a watch whose task is finished already is over, and forgotten, at once
        row = {"since": rfc3339.render(self._context.clock.now())}
        await self._context.intake.remember(self.name, _WATCH + task_id, row)
        feed = self._running(stream)
        if feed is None:
            self._feeds.pop(stream.key, None)
            feed = self._launch(stream, configured=False, memory=Memory(), cursor=None)
            await self._settle_finished()
        return self._watch_status(feed)

    async def created(self, payload: bytes) -> dict[str, Any]:
        """Takes a task creation response, publishes what it says, and starts the watch of its task.

        Raises:
            Refused: it is not one, or as for `watch`.
        """
        items = self._context.adapter.created(payload)
        first = items[0] if items else None
        if not isinstance(first, Observation):
            raise Refused(422, "not_a_creation", getattr(first, "problem", "not a task creation response"))
        stream = self._require_watchable(first.task_id)
        observations = [item for item in items if isinstance(item, Observation)]
        await self._context.intake.submit(self.name, stream, observations, received=self._context.clock.now())
        return await self.watch(first.task_id)

    async def unwatch(self, task_id: str) -> None:
        """Stops a watch and forgets it.

        Raises:
            Refused: there is none, or it is in the configuration.
        """
        feed = next((feed for feed in self._feeds.values() if feed.stream.task_id == task_id), None)
        if feed is None:
            raise Refused(404, "unknown_watch", f"source {self.name} does not watch {task_id}")
        if feed.configured:
            raise Refused(409, "configured_watch", "this watch is in the configuration file")
        task = self._tasks.get(feed.stream.key)
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=self._limits.stop)
        if self._feeds.get(feed.stream.key) is feed:
            del self._feeds[feed.stream.key]
        await self._forget_watch(feed)
        self._note_change()
        await self._settle_finished()

    async def fetch_download(self, task_id: str) -> download.Download:
        """Where a finished task's asset can be downloaded, as the upstream says now."""
        return await download.fetch(self._context, task_id)

    # --- inside ---

    async def _take_up_watch(self, task_id: str, rows: dict[str, bytes]) -> None:
        try:
            stream = self._require_watchable(task_id)
        except Refused as error:
            # the configuration has changed since
            log.warning("watch_dropped", source=self.name, task=task_id, error=str(error))
            await self._context.intake.remember(self.name, _WATCH + task_id, None)
            return
        if stream.key not in self._feeds:
            self._take_up(stream, rows, configured=False)

    def _require_watchable(self, task_id: str) -> Stream:
        try:
            stream = self._context.adapter.watch(task_id)
        except ValueError as error:
            raise Refused(400, "bad_task_id", str(error)) from error
        if stream is None:
            raise Refused(409, "no_watches", f"source {self.name} has no single-task watches")
        return stream

    def _running(self, stream: Stream) -> Feed | None:
        feed = self._feeds.get(stream.key)
        return None if feed is None or feed.over else feed

    def _require_room(self) -> None:
        if self._stopping:
            raise Refused(409, "stopping", "the gateway is shutting down")
        running = sum(1 for feed in self._feeds.values() if not feed.configured and not feed.over)
        if running >= self._limits.watches:
            raise Refused(429, "too_many_watches", f"source {self.name} has {running} watches already")

    def _take_up(self, stream: Stream, rows: dict[str, bytes], *, configured: bool) -> None:
        memory = Memory.decode(rows.get(FACT + stream.key))
        self._launch(stream, configured=configured, memory=memory, cursor=fact(rows.get(stream.key)))

    def _launch(self, stream: Stream, *, configured: bool, memory: Memory, cursor: dict[str, Any] | None) -> Feed:
        key = stream.key
        feed = self._feeds[key] = Feed(
            self._context,
            stream,
            self._note_change,
            configured=configured,
            memory=memory,
            cursor=cursor,
        )
        if feed.over:
            return feed
        task = self._tasks[key] = asyncio.create_task(self._keep(feed), name=f"stream {self.name} {stream.path}")
        task.add_done_callback(lambda done: self._ended(feed, done))
        return feed

    async def _keep(self, feed: Feed) -> None:
        ending = await feed.run()
        if ending.verdict == "refused":
            await self._context.notice("source.failed", feed.stream, error=ending.error, code=ending.code)
        elif feed.configured:
            feed.memory.finished = True
            await feed.remember()
        else:
            await self._forget_watch(feed)
        await self._settle_finished()

    def _ended(self, feed: Feed, task: asyncio.Task[None]) -> None:
        if self._tasks.get(feed.stream.key) is task:
            del self._tasks[feed.stream.key]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._trouble = f"{feed.stream.path}: internal error: {type(error).__name__}"
            self._context.report_bug(feed.stream, "supervisor", error)
        self._drop_oldest_over()

    def _drop_oldest_over(self) -> None:
        over = [key for key, feed in self._feeds.items() if not feed.configured and feed.over]
        for key in over[: max(len(over) - self._limits.watches, 0)]:
            del self._feeds[key]

    async def _forget_watch(self, feed: Feed) -> None:
        await self._context.intake.remember(self.name, f"{_WATCH}{feed.stream.task_id}", None)
        await feed.forget()

    async def _settle_finished(self) -> None:
        """Says once that a source of single-task watches has nothing left to watch; a new watch makes it news again."""
        feeds = [feed for feed in self._feeds.values() if feed.configured or feed.state != "failed"]
        finished = bool(feeds) and all(feed.stream.task_id and feed.state == "finished" for feed in feeds)
        if finished and not self._told_finished:
            self._told_finished = True
            log.info("source_finished", source=self.name)
            await self._context.notice("source.finished", None)
            if self._told_finished:
                await self._context.intake.remember(self.name, _FINISHED, {"finished": True})
        elif feeds and not finished and self._told_finished:
            self._told_finished = False
            await self._context.intake.remember(self.name, _FINISHED, None)

    def _note_change(self) -> None:
        live = any(feed.state == "live" for feed in self._feeds.values())
        self._context.up.set(1 if live else 0)

    def _watch_status(self, feed: Feed) -> dict[str, Any]:
        return {
            "source": self.name,
            "task_id": feed.stream.task_id,
            "endpoint": feed.stream.path,
            "configured": feed.configured,
            "state": feed.state,
            "since": rfc3339.render(feed.since),
            "error": feed.error,
        }


def _time(moment: float | None) -> str | None:
    return None if moment is None else rfc3339.render(moment)
