"""What can be asked of endpoints at run time: made, changed, removed, rotated, tested, replayed, retried; and what of it
survives."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.errors import Invalid, Refused
from gateway.metrics import Metrics
from gateway.store.api import Deliveries, LogEvent
from gateway.webhooks import endpoint as endpoint_module
from gateway.webhooks import record, signing
from gateway.webhooks.books import Books
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.health import DEAD_LINES
from gateway.webhooks.manager import Manager
from schemas import rfc3339
from tests.webhooks.fakes import SECRET, ManualClock, MemoryStore, Receiver, config, event, until

OTHER = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


class House:
    """A manager, and a log that takes what it announces."""

    def __init__(self, store: MemoryStore, clock: Any) -> None:
        self.store, self.clock, self.metrics = store, clock, Metrics()
        self.said: list[tuple[str, str, dict[str, Any]]] = []
        self.ids: set[str] = set()
        self.deaf = False  # the log takes nothing

    async def announce(self, id: str, kind: str, subject: str, at: float, data: Any) -> LogEvent | None:
        if self.deaf:
            raise Refused(503, "shutting_down", "The gateway is shutting down.")
        if id in self.ids:
            return None
        self.ids.add(id)
        self.said.append((kind, subject, dict(data)))
        new = event(self.store.head + 1, None, kind)
        self.dispatcher.publish(self.store.append(new))
        return new

    def commit(self, *events: LogEvent) -> None:
        self.dispatcher.publish(self.store.append(*events))

    @asynccontextmanager
    async def open(self, *files: Any) -> AsyncIterator[Manager]:
        self.dispatcher = Dispatcher(
            self.store, files, clock=self.clock, rng=random.Random(1), metrics=self.metrics, announce=self.announce
        )
        await self.dispatcher.start()
        self.manager = Manager(self.dispatcher, clock=self.clock, announce=self.announce)
        try:
            yield self.manager
            assert self.dispatcher.failure is None
        finally:
            await self.dispatcher.close()


@pytest.fixture
def house() -> House:
    return House(MemoryStore(), SystemClock())


def settings(url: str = "http://127.0.0.1:1/", **more: Any) -> dict[str, Any]:
    return {"name": "hook", "url": url, "allow_private": True} | more


# --- made, changed, removed


async def test_made_endpoint_delivers_and_survives(house: House) -> None:
    """An endpoint made at run time gets the next event, signed with the secret that was shown once, and is there after a
    restart."""
    house.store.append(event(1))
    async with Receiver().serve() as receiver:
        async with house.open() as manager:
            view, secret = await manager.create(settings(receiver.url), "ops")
            assert (view.origin, view.status.state, view.secrets, view.overlap_until) == ("api", "delivering", 1, None)
            assert secret is not None
            key = signing.decode_secret(secret)
            assert isinstance(key, bytes)
            assert len(key) == 32
            house.commit(event(house.store.head + 1))
            await receiver.wait(1)
            name, headers, body = receiver.received[0]
            expected = signing.sign([key], name, int(headers["webhook-timestamp"]), body)
            assert headers["webhook-signature"] == expected
            assert secret not in repr(view)
        assert receiver.ids == ["e3"]  # the first is older, the second says that it was created
        async with house.open() as manager:
            assert manager.get("hook").config.secret.get_secret_value() == secret
            house.commit(event(house.store.head + 1))
            await receiver.wait(2)
    assert house.said == [("webhook.created", "hook", {"endpoint": "hook", "by": "ops"})]


async def test_an_endpoint_costs_the_others_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored when one is made or changed is what it has to say; the others are not asked."""
    asked: list[str] = []
    collect = Books.collect

    def counted(books: Books, into: Deliveries, *, final: bool = False) -> None:
        asked.append(books.record.settings["name"] if books.record.settings else "?")
        collect(books, into, final=final)

    async with house.open() as manager:
        for n in range(20):
            await manager.create(settings(name=f"h{n}", type=["nothing"]), "ops")
        await house.dispatcher.flush()
        monkeypatch.setattr(Books, "collect", counted)
        await manager.create(settings(name="last", type=["nothing"]), "ops")
        await manager.change("last", {"timeout": 3}, "ops")
        await house.dispatcher.flush()
        assert set(asked) == {"last"}
        monkeypatch.undo()


async def test_given_secret_is_not_shown(house: House) -> None:
    """Who brings a secret does not get it back."""
    async with house.open() as manager:
        _, secret = await manager.create(settings(secret=SECRET), "ops")
        assert secret is None


async def test_names_are_taken_once(house: House) -> None:
    """A name that the file or the API uses is refused; so is what is not valid, all problems at once, without a value."""
    async with house.open(config(name="filed")) as manager:
        await manager.create(settings(), "ops")
        for name in ("hook", "filed"):
            with pytest.raises(Refused) as refused:
                await manager.create(settings(name=name), "ops")
            assert (refused.value.status, refused.value.code) == (409, "webhook_exists")
        with pytest.raises(Invalid) as invalid:
            await manager.create({"name": "new", "url": "ftp://s3cr3t", "tpye": "x", "timeout": -1}, "ops")
        assert set(invalid.value.errors) == {"url", "tpye", "timeout"}
        assert "s3cr3t" not in str(invalid.value)
        assert [view.config.name for view in manager.list()] == ["filed", "hook"]


async def test_merge_patch(house: House) -> None:
    """A patch changes what it names, null goes back to the default; headers are patched one by one."""
    async with house.open() as manager:
        await manager.create(settings(headers={"X-A": "a1b2", "X-B": "b1b2"}, timeout=3), "ops")
        view = await manager.change("hook", {"headers": {"X-A": None, "X-C": "c1c2"}, "timeout": None}, "ops")
        assert {k: v.get_secret_value() for k, v in view.config.headers.items()} == {"X-B": "b1b2", "X-C": "c1c2"}
        assert view.config.timeout == 15
        for patch, wrong in (({"name": "else"}, "name"), ({"url": None}, "url"), ({"rate_limit": 0}, "rate_limit")):
            with pytest.raises(Invalid) as invalid:
                await manager.change("hook", patch, "ops")
            assert set(invalid.value.errors) == {wrong}
        assert (await manager.change("hook", {"name": "hook"}, "ops")).config == view.config
        with pytest.raises(Refused) as refused:
            await manager.change("none", {}, "ops")
        assert (refused.value.status, refused.value.code) == (404, "webhook_not_found")
    assert house.said[1] == (
        "webhook.updated", "hook", {"endpoint": "hook", "by": "ops", "changed": ["headers", "timeout"]},
    )  # fmt: skip


@pytest.mark.parametrize("origin", ["file", "api"])
async def test_headers_are_patched_whatever_their_case(house: House, origin: str) -> None:
    """A header is the same however it is spelled: it is replaced and removed, never there twice."""
    headers = {"Authorization": "Bearer a"}
    async with house.open(*[config(headers=headers)] if origin == "file" else []) as manager:
        if origin == "api":
            await manager.create(settings(headers=headers), "ops")
        for patch, there in [
            ({"authorization": "Bearer b"}, {"Authorization": "Bearer b"}),
            ({"X-A": "a1b2"}, {"Authorization": "Bearer b", "X-A": "a1b2"}),
            ({"AUTHORIZATION": None, "x-a": "a3b4"}, {"X-A": "a3b4"}),
        ]:
            view = await manager.change("hook", {"headers": patch}, "ops")
            assert {name: value.get_secret_value() for name, value in view.config.headers.items()} == there
        with pytest.raises(Invalid) as invalid:
            await manager.change("hook", {"headers": {"X-B": "b1b2", "x-b": None}}, "ops")
        assert invalid.value.errors == {"headers.x-b": "is given twice"}


async def test_what_changes_nothing_is_no_event(house: House) -> None:
    """A patch with the values that there are already; but a disabled endpoint is enabled by `enabled`, true or null."""
    async with Receiver(lambda *_: 410).serve() as receiver, house.open() as manager:
        await manager.create(settings(receiver.url, timeout=3), "ops")
        for patch in ({}, {"timeout": 3}, {"headers": {}}, {"enabled": None}):
            await manager.change("hook", patch, "ops")
        assert [kind for kind, *_ in house.said] == ["webhook.created"]
        house.commit(event(house.store.head + 1))
        await until(lambda: manager.get("hook").status.disabled is not None)
        for enabled in (None, False, None):
            await manager.change("hook", {"enabled": enabled}, "ops")
            assert (manager.get("hook").status.disabled is None) == (enabled is None)
    said = [(kind, data.get("reason")) for kind, _, data in house.said[1:]]
    assert said == [
        ("webhook.disabled", "it answered 410"), ("webhook.enabled", None), ("webhook.updated", None),
        ("webhook.disabled", "its settings say so"), ("webhook.updated", None), ("webhook.enabled", None),
    ]  # fmt: skip


async def test_change_in_flight(house: House) -> None:
    """What is in flight ends where it was sent; what waits and what comes goes to the new address; none is lost or doubled."""
    gate = asyncio.Event()

    async def slow(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    async with Receiver(slow).serve() as old, Receiver().serve() as new, house.open() as manager:
        await manager.create(settings(old.url, concurrency=2), "ops")
        house.commit(*[event(n, f"jobs/{n}") for n in range(2, 10)])
        await old.wait(2)
        await manager.change("hook", {"url": new.url, "concurrency": 3}, "ops")
        await new.wait(1)
        gate.set()
        await new.wait(6)
        await until(lambda: house.store.state(2) == "delivered" and house.manager.get("hook").status.pending == 0)
        assert sorted(old.ids + new.ids) == [f"e{n}" for n in range(2, 10)]
        assert old.ids == ["e2", "e3"]


async def test_filter_change_holds_for_what_comes(house: House) -> None:
    """What was taken in by the old filter goes out, also after a crash right after the change."""
    async with Receiver(lambda *_: 500).serve() as receiver:
        async with house.open() as manager:
            await manager.create(settings(receiver.url, concurrency=1), "ops")
            house.commit(event(2, "jobs/2"), event(3, "jobs/3"))
            await receiver.wait(1)
            await manager.change("hook", {"kind": ["nothing"]}, "ops")
            crashed = MemoryStore()
            crashed.events, crashed.rows = list(house.store.events), dict(house.store.rows)
            crashed.stored_positions, crashed.records = dict(house.store.stored_positions), dict(house.store.records)
        receiver.received.clear()
        receiver.answer = None
        house.store = crashed
        for row in crashed.rows.values():
            row.due = 0.0
        async with house.open():
            house.commit(event(house.store.head + 1, "jobs/9"))
            await receiver.wait(2)
            await until(lambda: house.store.state(2) == house.store.state(3) == "delivered")
    assert sorted(receiver.ids) == ["e2", "e3"]


async def test_removed(house: House) -> None:
    """A removed endpoint leaves nothing behind: no row, no record, no label; the log says who removed it."""
    async with Receiver(lambda *_: 500).serve() as receiver, house.open() as manager:
        await manager.create(settings(receiver.url), "ops")
        house.commit(event(2))
        await until(lambda: house.store.state(2) == "pending")
        assert b'endpoint="hook"' in generate_latest(house.metrics.registry)
        await manager.remove("hook", "ops")
        assert (house.store.rows, house.store.records, house.store.stored_positions) == ({}, {}, {})
        assert b'endpoint="hook"' not in generate_latest(house.metrics.registry)
        assert manager.list() == []
        with pytest.raises(Refused, match="no such"):
            await manager.test("hook", "ops")
        house.commit(event(house.store.head + 1))
        await manager.create(settings(receiver.url), "ops")
    assert [kind for kind, *_ in house.said] == ["webhook.created", "webhook.deleted", "webhook.created"]


async def test_removal_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that hangs does not keep its endpoint from being removed."""
    monkeypatch.setattr("gateway.webhooks.dispatcher.LAST_ATTEMPTS", 0.05)
    gate = asyncio.Event()

    async def stuck(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    async with Receiver(stuck).serve() as receiver, house.open() as manager:
        await manager.create(settings(receiver.url), "ops")
        house.commit(event(2))
        await receiver.wait(1)
        await manager.remove("hook", "ops")
        gate.set()
        assert house.store.records == {}


async def test_removal_that_a_crash_cut_short(house: House) -> None:
    """The next start finishes it, and says so once."""
    async with house.open() as manager:
        await manager.create(settings(), "ops")
        worker = house.dispatcher.endpoints["hook"]
        worker.record.removed = True
        worker.books.note("webhook.deleted", {"by": "ops"})
        house.deaf = True
        await house.dispatcher.flush()
    house.deaf = False
    async with house.open() as manager:
        await until(lambda: len(house.said) == 2)
        assert manager.list() == []
        assert house.store.records == house.store.stored_positions == {}


# --- the file and the API


async def test_changes_of_an_endpoint_of_the_file_hold_until_it_is_edited(house: House) -> None:
    """What the API changed is laid over the file's definition, survives restarts, and ends when the file is edited."""
    async with house.open(config(timeout=3)) as manager:
        view = await manager.change("hook", {"timeout": 7, "headers": {"X-A": "a1b2"}}, "ops")
        assert (view.origin, view.config.timeout) == ("file", 7)
        await manager.rotate_secret("hook", OTHER, 100, "ops")
        with pytest.raises(Refused) as refused:
            await manager.remove("hook", "ops")
        assert (refused.value.status, refused.value.code) == (409, "webhook_in_file")
        await manager.change("hook", {"timeout": None}, "ops")
    async with house.open(config(timeout=3)) as manager:
        view = manager.get("hook")
        assert (view.config.timeout, list(view.config.headers), view.secrets) == (15, ["X-A"], 2)
        assert view.config.secret.get_secret_value() == OTHER
    with capture_logs() as logs:
        async with house.open(config(timeout=4)) as manager:
            view = manager.get("hook")
            assert (view.config.timeout, dict(view.config.headers)) == (4, {})
            await until(lambda: house.said[-1][2]["by"] == "configuration")
    assert [one["event"] for one in logs] == ["webhook_changes_dropped"]
    data = {"endpoint": "hook", "by": "configuration", "changed": ["headers", "timeout"]}
    assert house.said[-1] == ("webhook.updated", "hook", data)


async def test_rotation_outlives_edits_of_the_file(house: House) -> None:
    """A secret that the API rotated after a leak stays the one that signs when somebody edits a timeout in the file; written
    into the file itself, it cuts no overlap short."""
    async with house.open(config(timeout=3)) as manager:
        await manager.rotate_secret("hook", OTHER, 0, "ops")
    async with house.open(config(timeout=4)) as manager:
        view = manager.get("hook")
        assert (view.config.secret.get_secret_value(), view.secrets, view.config.timeout) == (OTHER, 1, 4)
        third = await manager.rotate_secret("hook", None, 1000, "ops")
        until_then = manager.get("hook").overlap_until
    for _ in range(2):
        async with house.open(config(timeout=4, secret=third)) as manager:
            view = manager.get("hook")
            assert (view.config.secret.get_secret_value(), view.secrets) == (third, 2)
            assert view.overlap_until == until_then
    assert SECRET not in repr(house.store.records)


async def test_endpoint_that_leaves_the_file_is_told(house: House) -> None:
    """What is lost with it is said, in the log of the gateway and in that of events; nothing of it is kept."""
    async with (
        Receiver(lambda request, name: 500).serve() as receiver,
        house.open(config(receiver.url, retry_schedule=[1000])) as manager,
    ):
        house.commit(event(1, "jobs/1"), event(2, "jobs/1"))
        await until(lambda: manager.get("hook").status.failing_since is not None)
    with capture_logs() as logs:
        async with house.open():
            assert house.store.records == house.store.stored_positions == house.store.rows == {}
            await until(lambda: bool(house.said))
    assert [one for one in logs if one["log_level"] == "warning"] == [
        {"event": "webhook_endpoint_left_the_file", "log_level": "warning", "endpoint": "hook", "pending": 2, "dead": 0}
    ]
    data = {"endpoint": "hook", "by": "configuration", "pending": 2, "dead": 0}
    assert house.said == [("webhook.deleted", "hook", data)]


async def test_the_file_takes_over_a_name(house: House) -> None:
    """An endpoint that the API made and the file now defines is the file's, at the position where it was, and that is said."""
    async with house.open() as manager:
        await manager.create(settings(timeout=9), "ops")
    position = house.store.stored_positions["hook"]
    house.store.append(event(house.store.head + 1))
    with capture_logs() as logs:
        async with house.open(config("http://127.0.0.1:1/")) as manager:
            view = manager.get("hook")
            assert (view.origin, view.config.timeout) == ("file", 15)
            assert position <= house.store.stored_positions["hook"]
            await until(lambda: house.said[-1][0] == "webhook.updated")
    assert logs[0]["event"] == "webhook_changes_dropped"
    changed = ["allow_private", "secret", "timeout", "url"]
    assert house.said[-1] == (
        "webhook.updated",
        "hook",
        {"endpoint": "hook", "by": "configuration", "changed": changed},
    )


async def test_record_that_cannot_be_used_any_more_stops_nothing(house: House) -> None:
    """Settings that an older version took are left out with an error, the others start."""
    async with house.open() as manager:
        await manager.create(settings(), "ops")
        await manager.create(settings(name="good"), "ops")
    kept = record.decode(house.store.records["hook"])
    assert kept.settings is not None
    kept.settings["timeout"] = -1
    house.store.records["hook"] = record.encode(kept)
    with capture_logs() as logs:
        async with house.open() as manager:
            assert [view.config.name for view in manager.list()] == ["good"]
            assert "hook" in house.store.records
    assert next(one for one in logs if one["log_level"] == "error")["problems"] == ["timeout"]


# --- secrets


async def test_rotation_signs_with_both_for_a_while(house: House) -> None:
    """The new secret signs first, the old one until the overlap is over; with no overlap it stops at once."""
    house.clock = clock = ManualClock()
    async with Receiver().serve() as receiver, house.open() as manager:
        _, first = await manager.create(settings(receiver.url), "ops")
        assert first is not None
        second = await manager.rotate_secret("hook", None, 60, "ops")

        async def signed_by() -> list[str]:
            count = len(receiver.received)
            house.commit(event(house.store.head + 1))
            await receiver.wait(count + 1)
            name, headers, body = receiver.received[-1]
            known = {}
            for label, secret in (("first", first), ("second", second), ("other", OTHER)):
                entry = signing.sign([signing.decode_secret(secret)], name, int(headers["webhook-timestamp"]), body)
                known[entry] = label
            return [known[entry] for entry in headers["webhook-signature"].split(" ")]

        assert await signed_by() == ["second", "first"]
        assert (manager.get("hook").secrets, manager.get("hook").overlap_until) == (2, clock.now() + 60)
        await clock.advance(61)
        assert await signed_by() == ["second"]
        assert (manager.get("hook").secrets, manager.get("hook").overlap_until) == (1, None)
        assert await manager.rotate_secret("hook", OTHER, 0, "ops") == OTHER
        assert await signed_by() == ["other"]
    kinds = [(kind, data.get("overlap")) for kind, _, data in house.said]
    assert kinds[1:] == [("webhook.secret_rotated", 60), ("webhook.secret_rotated", 0)]
    assert not any(secret[6:] in repr(house.said) for secret in (first, second, OTHER))


async def test_rotation_keeps_the_kind_of_a_secret(house: House) -> None:
    """Receivers that hold a public key must not be left with signatures of a shared secret that they do not have."""
    async with house.open() as manager:
        _, first = await manager.create(settings(), "ops")
        assert first is not None
        assert (await manager.rotate_secret("hook", None, 0, "ops")).startswith("whsec_")
        await manager.rotate_secret("hook", signing.PRIVATE + first.partition("_")[2], 0, "ops")
        assert (await manager.rotate_secret("hook", None, 0, "ops")).startswith("whsk_")


async def test_rotation_limits(house: House) -> None:
    """At most ten secrets sign, and an overlap that was promised is kept: what would cut one short is refused until one is
    over. Without an overlap there is always room. Wrong secrets are refused without being repeated."""
    house.clock = clock = ManualClock()
    async with house.open() as manager:
        await manager.create(settings(), "ops")
        for overlap in (86400, *[60] * 8):
            await manager.rotate_secret("hook", None, overlap, "ops")
        free, promised = rfc3339.render(clock.now() + 60), manager.get("hook").overlap_until
        with pytest.raises(Refused, match=f"can begin at {free}") as refused:
            await manager.rotate_secret("hook", None, 60, "ops")
        assert (refused.value.status, refused.value.code) == (409, "too_many_secrets")
        await manager.rotate_secret("hook", None, 0, "ops")
        assert (manager.get("hook").secrets, manager.get("hook").overlap_until) == (10, promised)
        await clock.advance(61)
        await manager.rotate_secret("hook", None, 60, "ops")
        assert (manager.get("hook").secrets, manager.get("hook").overlap_until) == (3, promised)
        for secret, overlap, wrong in (("whsec_xyz!", 1, "secret"), (None, -1, "overlap"), (None, 604801, "overlap")):
            with pytest.raises(Invalid) as invalid:
                await manager.rotate_secret("hook", secret, overlap, "ops")
            assert set(invalid.value.errors) == {wrong}
            assert "xyz" not in str(invalid.value)


# --- disabled


@pytest.mark.parametrize("origin", ["file", "api"])
async def test_disabled_and_enabled(house: House, origin: str) -> None:
    """Disabled by a change: what is pending is a dead letter, nothing is queued; enabled again it goes on; replay fetches all
    back."""
    async with Receiver(lambda *_: 500).serve() as receiver:
        files = [config(receiver.url)] if origin == "file" else []
        async with house.open(*files) as manager:
            if origin == "api":
                await manager.create(settings(receiver.url), "ops")
            first = house.store.head + 1
            house.commit(event(first))
            await until(lambda: house.store.state(first) == "pending")
            view = await manager.change("hook", {"enabled": False}, "ops")
            assert (view.status.state, view.config.enabled) == ("disabled", False)
            await until(lambda: house.store.state(first) == "dead")
            for asked in (
                manager.test("hook", "x"), manager.retry(f"hook.{first}", "x"), manager.retry_dead("hook", "x"),
                manager.replay("hook", after=0, since=None, by="x"),
            ):  # fmt: skip
                with pytest.raises(Refused) as refused:
                    await asked
                assert (refused.value.status, refused.value.code) == (409, "webhook_disabled")
            second = house.store.head + 1
            house.commit(event(second, "jobs/2"))
            await until(lambda: manager.get("hook").status.position >= second)
        receiver.answer = None
        async with house.open(*files) as manager:
            assert manager.get("hook").status.disabled == "its settings say so"
            view = await manager.enable("hook", "ops")
            assert (view.status.disabled, view.config.enabled) == (None, True)
            assert house.store.state(second) is None
            await manager.replay("hook", after=first - 1, since=None, by="ops")
            await until(lambda: house.store.state(first) == house.store.state(second) == "delivered")
    said = [kind for kind, *_ in house.said if kind != "webhook.created"]
    reasons = [data["reason"] for kind, _, data in house.said if kind == "webhook.disabled"]
    assert reasons == ["its settings say so"]
    assert [attempt["duration_ms"] is None for attempt in house.store.attempts(first)] == [False, True, False]
    assert said == [
        "webhook.updated", "webhook.disabled", "webhook.updated", "webhook.enabled", "webhook.replayed",
    ]  # fmt: skip


async def test_an_open_breaker_survives(house: House) -> None:
    """After a restart one probe goes out, and not everything that was held back."""
    house.clock = clock = ManualClock()
    async with Receiver(lambda *_: 503).serve() as receiver:
        files = [config(receiver.url, retry_schedule=[9999])]
        async with house.open(*files) as manager:
            house.commit(*(event(n, f"jobs/{n}") for n in range(1, 5)))
            await until(lambda: manager.get("hook").status.breaker == "open")
        house.commit(*(event(n, f"jobs/{n}") for n in range(5, 50)))
        async with house.open(*files) as manager:
            assert manager.get("hook").status.state == "paused"
            await receiver.wait(5)
            await until(lambda: house.store.state(5) == "pending")
            assert len(receiver.ids) == 5
            receiver.answer = None
            await clock.advance(60)
            await receiver.wait(49)
            assert manager.get("hook").status.breaker == "closed"
        assert not record.decode(house.store.records["hook"]).paused


@pytest.mark.parametrize("how", ["410", "file", "api"])
async def test_nothing_is_queued_while_disabled(how: str) -> None:
    """The position is stored now and then only. After a crash, what the log had taken in meanwhile became dead letters, and
    where the endpoint was enabled in the file, was sent."""
    clock = ManualClock()
    house = House(MemoryStore(), clock)
    async with Receiver(lambda *_: 410).serve() as receiver:
        made = [config(receiver.url)]
        async with house.open(*made) as manager:
            if how == "410":
                house.commit(event(1))
            elif how == "file":
                made = [config(receiver.url, enabled=False)]
                await manager.follow(made)
            else:
                await manager.change("hook", {"enabled": False}, "ops")
            await until(lambda: any(kind == "webhook.disabled" for kind, *_ in house.said))
            await until(lambda: not manager.get("hook").status.pending)
            await house.dispatcher.flush()
            first = house.store.head + 1
            house.commit(*(event(first + n, f"jobs/{n}") for n in range(20)))
            await until(lambda: manager.get("hook").status.position == first + 19)
            crashed = House(house.store.copy(), clock)
            crashed.ids = house.ids
        assert crashed.store.stored_positions["hook"] < first
        if how != "file":
            async with crashed.open(*made) as manager:
                await until(lambda: manager.get("hook").status.position == first + 19)
                assert manager.get("hook").status.state == "disabled"
                await manager.enable("hook", "ops")
        receiver.answer = None
        async with crashed.open(config(receiver.url)) as manager:
            assert manager.get("hook").status.state == "delivering"
            last = crashed.store.head + 1
            crashed.commit(event(last, "jobs/1"))
            await receiver.wait(1 + (how == "410"))
    assert receiver.ids[-1] == f"e{last}"
    assert [sequence for _, sequence in crashed.store.rows if first <= sequence < first + 20] == []
    assert [kind for kind, *_ in crashed.said if kind != "webhook.updated"] == ["webhook.enabled"]


async def test_enabled_from_a_position_on() -> None:
    """That it is enabled is stored with where it begins: after a crash it began with what had come while it was disabled."""
    house = House(MemoryStore(), ManualClock())
    async with Receiver(lambda *_: 410).serve() as receiver:
        async with house.open(config(receiver.url)) as manager:
            house.commit(event(1))
            await until(lambda: any(kind == "webhook.disabled" for kind, *_ in house.said))
            house.commit(event(3, "jobs/3"))
            await manager.enable("hook", "ops")
            crashed = House(house.store.copy(), house.clock)
            crashed.ids = house.ids
        receiver.answer = None
        async with crashed.open(config(receiver.url)) as manager:
            crashed.commit(event(crashed.store.head + 1))
            await receiver.wait(2)
    assert receiver.ids == ["e1", f"e{crashed.store.head}"]


async def test_what_the_log_took_in_before_it_said_disabled(house: House) -> None:
    """Events between the last attempt and `webhook.disabled` were neither delivered nor dead letters, and no replay from
    there fetched them; also where the gateway was killed before it knew that the log had that notice."""
    async with Receiver(lambda *_: 410).serve() as receiver:
        async with house.open(config(receiver.url)) as manager:
            house.deaf = True
            house.commit(event(1))
            await until(lambda: manager.get("hook").status.state == "disabled")
            house.commit(event(2, "jobs/2"), event(3, "jobs/3"))
            await until(lambda: house.store.state(1) == "dead")
            assert house.store.state(2) is None
            await house.dispatcher.flush()
            crashed = House(house.store.copy(), house.clock)
        (notice,) = record.decode(crashed.store.records["hook"]).notices
        crashed.ids.add(notice.id)
        said = msgspec.structs.replace(event(4, None, notice.type), id=notice.id)
        crashed.store.append(said, event(5, "jobs/5"))
        async with crashed.open(config(receiver.url)) as manager:
            await until(lambda: manager.get("hook").status.position == 5)
            assert manager.get("hook").status.dead == 3
            await crashed.dispatcher.flush()
    assert [crashed.store.state(sequence) for sequence in (1, 2, 3, 5)] == ["dead", "dead", "dead", None]


async def test_a_clock_that_was_set_back(house: House) -> None:
    """What is asked for after a restart is newer than what was settled before it, whatever the clock says: a replay passed
    over it, and a retry of all dead letters found none."""
    house.clock = clock = ManualClock()
    async with Receiver().serve() as receiver:
        async with house.open(config(receiver.url, retry_schedule=[])):
            house.commit(event(1))
            await until(lambda: house.store.state(1) == "delivered")
            receiver.answer = lambda *_: 500
            house.commit(event(2, "jobs/2"))
            await until(lambda: house.store.state(2) == "dead")
        receiver.answer = None
        clock.epoch -= 3600
        async with house.open(config(receiver.url, retry_schedule=[])) as manager:
            assert await manager.retry_dead("hook", "ops") == 1
            await until(lambda: house.store.state(2) == "delivered")
            await manager.replay("hook", after=0, since=None, by="ops")
            await receiver.wait(5)
    assert receiver.ids == ["e1", "e2", "e2", "e1", "e2"]


async def test_what_is_being_sent_is_due_no_more(house: House) -> None:
    """A test event in flight had a time for its next attempt, in the past."""
    answered = asyncio.Event()

    async def answer(*_: Any) -> int:
        await answered.wait()
        return 200

    async with Receiver(answer).serve() as receiver, house.open(config(receiver.url)) as manager:
        sent = await manager.test("hook", "ops")
        await receiver.wait(1)
        (listed,), _ = await manager.deliveries("hook", None, limit=10, cursor=None)
        assert (sent.id, sent.state, listed.id, listed.state, listed.next_attempt_at) == (
            "hook.1", "pending", "hook.1", "pending", None,
        )  # fmt: skip
        answered.set()
        await until(lambda: house.store.state(1) == "delivered")


async def test_disabled_after_failing_for_long(house: House) -> None:
    """When nothing succeeded for `disable_after`, restarts included, the endpoint is disabled; the log says why and since
    when, once, even if it could not be told at that moment."""
    house.clock = clock = ManualClock()
    async with Receiver(lambda *_: 500).serve() as receiver:
        files = [config(receiver.url, disable_after="1h", retry_schedule=[600.0] * 20)]
        async with house.open(*files):
            house.commit(event(1))
            await until(lambda: house.store.state(1) == "pending")
            began = clock.now()
        async with house.open(*files) as manager:
            assert manager.get("hook").status.failing_since == began
            house.deaf = True
            for tries in range(2, 8):
                if clock.now() - began < 3600:
                    assert manager.get("hook").status.disabled is None
                await clock.advance(721)
                await until(lambda tries=tries: len(house.store.attempts(1)) >= tries)
            await until(lambda: house.store.state(1) == "dead")
            assert manager.get("hook").status.disabled == "every attempt failed for 3600 seconds"
        house.deaf = False
        async with house.open(*files) as manager:
            await until(lambda: len(house.said) == 1)
            assert manager.get("hook").status.state == "disabled"
            receiver.answer = None
            await manager.enable("hook", "ops")
            assert manager.get("hook").status.failing_since is None
    ((kind, _, data), *_) = house.said
    assert (kind, data["by"], data["last_error"]) == ("webhook.disabled", "mainstem", "HTTP 500")
    assert data["failing_since"].startswith("20")


async def test_disable_after_zero_is_never(house: House) -> None:
    """0 switches it off."""
    house.clock = clock = ManualClock()
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        house.open(config(receiver.url, disable_after=0, retry_schedule=[600_000.0] * 3)) as manager,
    ):
        house.commit(event(1))
        for tries in range(1, 4):
            await until(lambda tries=tries: len(house.store.attempts(1)) == tries)
            await clock.advance(721_000)
        assert manager.get("hook").status.disabled is None


# --- test, retry, replay


async def test_test_event(house: House) -> None:
    """It goes to one endpoint alone, whatever that one's filter says, is retried and listed like any delivery, and waits
    behind nothing."""
    house.clock = clock = ManualClock()
    async with Receiver(lambda *_: 500).serve() as one, Receiver().serve() as other:
        files = [config(one.url, name="one", type="task.failed"), config(other.url, name="other", type="*")]
        async with house.open(*files) as manager:
            view = await manager.test("one", "ops")
            assert (view.state, view.event_type, view.endpoint, view.sequence) == ("pending", "webhook.test", "one", 1)
            await until(lambda: len(house.store.attempts(1, "one")) == 1)
        one.answer = None
        async with house.open(*files) as manager:
            again = await manager.test("one", "ops")
            await until(lambda: house.store.state(again.sequence, "one") == "delivered")
            await clock.advance(6.1)
            await until(lambda: house.store.state(1, "one") == "delivered")
            shown = await manager.delivery(view.id)
            assert [a["status"] for a in shown.attempts] == [500, 200]
            assert (shown.next_attempt_at, shown.state) == (None, "delivered")
            await manager.replay("one", after=0, since=None, by="ops")
            house.commit(event(house.store.head + 1, type_="task.failed"))
            await other.wait(2)
            await until(lambda: house.manager.get("one").status.pending == 0)
    assert Counter(one.ids) == {"e1": 2, "e2": 1, f"e{house.store.head}": 1}
    assert "e1" not in other.ids
    assert "e2" not in other.ids


async def test_own_notices_need_a_filter_that_names_them(house: House) -> None:
    """`webhook.*` events go to endpoints that ask for them by type, not to those that take everything by default."""
    async with Receiver().serve() as silent, Receiver().serve() as curious:
        files = [config(silent.url, name="a"), config(curious.url, name="b", type=["webhook.*"])]
        async with house.open(*files) as manager:
            await manager.create(settings(name="c"), "ops")
            house.commit(event(house.store.head + 1))
            await silent.wait(1)
            await curious.wait(1)
            await until(lambda: all(view.status.position == 2 for view in manager.list()[:2]))
    assert (silent.ids, curious.ids) == (["e2"], ["e1"])


async def test_dead_letter_is_retried(house: House) -> None:
    """It gets a fresh schedule and keeps its history and its id; later events of the task are not held up by an old one."""
    house.clock = clock = ManualClock()
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        house.open(config(receiver.url, retry_schedule=[10.0])) as manager,
    ):
        house.commit(event(1))
        await until(lambda: house.store.state(1) == "pending")
        await clock.advance(13)
        await until(lambda: house.store.state(1) == "dead")
        assert manager.get("hook").status.dead == 1
        view = await manager.retry("hook.1", "ops")
        assert (view.state, len(view.attempts)) == ("pending", 2)
        await until(lambda: len(house.store.attempts(1)) == 3)
        assert (house.store.state(1), manager.get("hook").status.dead) == ("pending", 0)
        receiver.answer = None
        await manager.retry("hook.1", "ops")  # pending: due now
        await until(lambda: house.store.state(1) == "delivered")
        await manager.retry("hook.1", "ops")  # delivered: once more
        await receiver.wait(5)
        await until(lambda: len(house.store.attempts(1)) == 5)
        for id in ("hook.9", "none.1", "hook", "hook.x", "hook.-1", "hook.", "hook." + "9" * 30, "hook.\u0663"):
            with pytest.raises(Refused) as refused:
                await manager.retry(id, "ops")
            assert (refused.value.status, refused.value.code) == (404, "delivery_not_found")
    assert set(receiver.ids) == {"e1"}
    assert [data.get("delivery") for kind, _, data in house.said if kind == "webhook.retried"] == ["hook.1"] * 3


async def test_retry_overtakes_nothing(house: House) -> None:
    """A retried delivery goes before later ones of its task that wait, and after an earlier one that does."""
    house.clock = clock = ManualClock()
    bad = {"e1", "e2"}

    async with (
        Receiver(lambda _, name: 500 if name in bad else 200).serve() as receiver,
        house.open(config(receiver.url, retry_schedule=[10.0])) as manager,
    ):
        house.commit(event(1), event(2), event(3))
        await until(lambda: house.store.state(1) == "pending")
        await clock.advance(13)
        await until(lambda: house.store.state(2) == "pending")  # 1 is dead, 2 failed once, 3 waits
        bad.clear()
        await manager.retry("hook.3", "ops")
        await manager.retry("hook.1", "ops")
        await until(lambda: house.store.state(1) == "delivered")
        assert house.store.state(3) == "pending"
        await clock.advance(13)
        await until(lambda: house.store.state(3) == "delivered")
    assert receiver.ids[-3:] == ["e1", "e2", "e3"]


async def test_retry_of_what_cannot_be_retried_is_no_event(house: House) -> None:
    """A delivery in its first attempt is known and left alone; one that is not there is 404. Neither is said to be retried."""
    release = asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        await release.wait()
        return 200

    async with Receiver(answer).serve() as receiver, house.open(config(receiver.url)) as manager:
        house.commit(event(1))
        await receiver.wait(1)
        view = await manager.retry("hook.1", "ops")
        assert (view.id, view.state, view.attempts) == ("hook.1", "pending", [])
        with pytest.raises(Refused) as refused:
            await manager.retry("hook.2", "ops")
        assert (refused.value.status, refused.value.code) == (404, "delivery_not_found")
        release.set()
        await until(lambda: house.store.state(1) == "delivered")
    assert receiver.ids == ["e1"]
    assert house.said == []


async def test_all_dead_letters_are_retried(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By and by, in order per task, with bounded memory, across a restart; ten thousand of them are not as many log lines."""
    monkeypatch.setattr(endpoint_module, "WINDOW", 100)
    async with Receiver(lambda *_: 500).serve() as receiver:
        files = [config(receiver.url, retry_schedule=[], concurrency=32)]
        with capture_logs() as logs:
            async with house.open(*files) as manager:
                house.commit(*[event(n, f"jobs/{n % 40}") for n in range(1, 401)])
                await until(lambda: manager.get("hook").status.dead == 400)
        dead = [one["count"] for one in logs if one["event"] == "webhook_deliveries_dead"]
        assert sum(dead) == 400
        assert len(dead) == 2
        assert DEAD_LINES == 60
        receiver.received.clear()
        receiver.answer = None
        async with house.open(*files) as manager:
            assert await manager.retry_dead("hook", "ops") == 400
            await receiver.wait(1)
        async with house.open(*files) as manager:
            await until(lambda: manager.get("hook").status.dead == 0)
            await until(lambda: all(house.store.state(n) == "delivered" for n in range(1, 401)))
    for lane in range(40):
        ids = list(dict.fromkeys(one for one in receiver.ids if int(one[1:]) % 40 == lane))
        assert ids == sorted(ids, key=lambda one: int(one[1:]))


async def test_replay(house: House) -> None:
    """Events after a position, or since a time, come again with their ids, in order per task; history is kept; new events go
    behind."""
    async with Receiver().serve() as receiver, house.open(config(receiver.url)) as manager:
        house.commit(*[event(n, f"jobs/{n % 2}") for n in range(1, 9)])
        await until(lambda: all(house.store.state(n) == "delivered" for n in range(1, 9)))
        receiver.received.clear()
        assert await manager.replay("hook", after=4, since=None, by="ops") == 4
        await receiver.wait(4)
        await until(lambda: manager.get("hook").status.replay_upto is None)
        assert [one for one in receiver.ids if int(one[1:]) % 2] == ["e5", "e7"]
        assert [one for one in receiver.ids if not int(one[1:]) % 2] == ["e6", "e8"]
        await until(lambda: len(house.store.attempts(8)) == 2)
        receiver.received.clear()
        assert await manager.replay("hook", after=None, since=1007.0, by="ops") == 6
        await receiver.wait(2)
        await until(lambda: manager.get("hook").status.replay_upto is None)
        assert sorted(receiver.ids) == ["e7", "e8"]
        house.store.floor, house.store.events = 5, house.store.events[5:]
        assert await manager.replay("hook", after=2, since=None, by="ops") == 5
    spans = [(d["after"][-1], d["upto"][-2:], d["requested"][-1]) for k, _, d in house.said if k == "webhook.replayed"]
    assert spans == [("4", "08", "4"), ("6", "09", "6"), ("5", "10", "2")]


async def test_replay_goes_on_after_a_crash(house: House) -> None:
    """What the replay had delivered is not sent again, the rest is."""
    gate = asyncio.Event()
    gate.set()

    async def answer(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    async with Receiver(answer).serve() as receiver:
        files = [config(receiver.url, concurrency=1)]
        async with house.open(*files) as manager:
            house.commit(*[event(n, f"jobs/{n}") for n in range(1, 41)])
            await until(lambda: all(house.store.state(n) == "delivered" for n in range(1, 41)))
            receiver.received.clear()
            await manager.replay("hook", after=0, since=None, by="ops")
            await receiver.wait(10)
            gate.clear()
            await until(lambda: manager.get("hook").status.in_flight == 1)
            await house.dispatcher.flush()
        gate.set()
        async with house.open(*files) as manager:
            await until(lambda: manager.get("hook").status.replay_upto is None)
            await until(lambda: all(len(house.store.attempts(n)) == 2 for n in range(1, 41)))
    counts = Counter(receiver.ids)
    assert set(counts) == {f"e{n}" for n in range(1, 41)}
    assert sum(counts.values()) <= 41


# --- looked at


async def test_deliveries_are_listed_newest_first(house: House) -> None:
    """In pages, by state; a cursor that no page gave is none."""
    async with (
        Receiver(lambda _, name: 200 if int(name[1:]) % 2 else 500).serve() as receiver,
        house.open(config(receiver.url, retry_schedule=[])) as manager,
    ):
        house.commit(*[event(n, f"jobs/{n}") for n in range(1, 8)])
        await until(lambda: sum(1 for n in range(1, 8) if house.store.state(n)) == 7)
        seen, cursor = [], None
        while True:
            page, cursor = await manager.deliveries("hook", None, limit=3, cursor=cursor)
            seen += [view.sequence for view in page]
            if cursor is None:
                break
        assert seen == [7, 6, 5, 4, 3, 2, 1]
        dead, _ = await manager.deliveries("hook", "dead", limit=10, cursor=None)
        assert [(view.id, view.event_type, view.task) for view in dead[:1]] == [("hook.6", "task.updated", "jobs/6")]
        assert set(dead[0].attempts[0]) == {"at", "status", "duration_ms", "error", "response"}
        for wrong in ("x", "", "ZDF=", "Kg", "é"):
            with pytest.raises(ValueError, match="cursor"):
                await manager.deliveries("hook", None, limit=3, cursor=wrong)
        with pytest.raises(Refused):
            await manager.deliveries("none", None, limit=3, cursor=None)


async def test_deliveries_that_were_never_tried_are_listed(house: House) -> None:
    """One in its first attempt and those that wait for theirs, with the stored ones in order, none twice, page by page."""
    release = asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        if name in ("e2", "e5"):
            await release.wait()
        return 200 if name in ("e1", "e5") else 500

    async with (
        Receiver(answer).serve() as receiver,
        house.open(config(receiver.url, retry_schedule=[])) as manager,
    ):
        house.commit(event(1, "jobs/1"), event(2, "jobs/2"), event(3, "jobs/2"), event(4, "jobs/4"), event(5, "jobs/5"))
        await receiver.wait(4)
        await until(lambda: house.store.state(1) == "delivered" and house.store.state(4) == "dead")

        async def listed(state: str | None, limit: int = 2) -> list[tuple[int, str, int]]:
            found, cursor, more = [], None, True
            while more:
                page, cursor = await manager.deliveries("hook", state, limit=limit, cursor=cursor)
                assert len(page) <= limit
                found += [(view.sequence, view.state, len(view.attempts)) for view in page]
                more = cursor is not None
            return found

        everything = [
            (5, "pending", 0), (4, "dead", 1), (3, "pending", 0), (2, "pending", 0), (1, "delivered", 1)
        ]  # fmt: skip
        assert await listed(None) == await listed(None, 1) == await listed(None, 10) == everything
        assert await listed("pending") == [one for one in everything if one[1] == "pending"]
        assert [(await manager.delivery(f"hook.{n}")).state for n in (5, 3, 2)] == ["pending"] * 3
        begins = await manager.replay("hook", after=0, since=None, by="ops")
        assert begins == 0
        await receiver.wait(6)  # of the first and the fourth again
        await until(lambda: len(house.store.attempts(4)) == 2)
        again = [(sequence, state) for sequence, state, _ in await listed(None)]
        assert again == [*((6, "pending") for n in again if n[0] == 6), *(one[:2] for one in everything)]
        release.set()
        await until(lambda: manager.get("hook").status.pending == 0)
        assert [state for _, state, _ in await listed(None)][-5:] == [
            "delivered", "dead", "dead", "dead", "delivered",
        ]  # fmt: skip


async def test_lag_is_what_was_not_looked_at(house: House) -> None:
    """What waits in the log behind an endpoint that is too slow is counted, and the label goes with the endpoint."""
    release = asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        await release.wait()
        return 200

    async with Receiver(answer).serve() as receiver, house.open() as manager:
        await manager.create(settings(receiver.url, concurrency=1), "ops")
        count = 3000
        house.commit(*[event(house.store.head + n, f"jobs/{n}") for n in range(1, count + 1)])
        await receiver.wait(1)
        await until(lambda: 0 < manager.get("hook").status.lag < count)
        status = manager.get("hook").status
        assert status.lag + status.pending == count
        line = f'mainstem_delivery_lag_events{{endpoint="hook"}} {status.lag:.1f}'
        assert line in generate_latest(house.metrics.registry).decode()
        release.set()
        await manager.remove("hook", "ops")
        assert "mainstem_delivery_lag_events{" not in generate_latest(house.metrics.registry).decode()


async def test_retention_is_counted(house: House) -> None:
    """Dead letters that retention removed are not counted any more."""
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        house.open(config(receiver.url, retry_schedule=[])) as manager,
    ):
        house.commit(event(1), event(2, "jobs/2"))
        await until(lambda: house.store.state(1) == house.store.state(2) == "dead")
        del house.store.rows["hook", 1]
        await house.dispatcher.recount()
        assert manager.get("hook").status.dead == 1


async def test_no_secret_leaves(house: House) -> None:
    """Not in a view, a notice, a log line, or an error."""
    with capture_logs() as logs:
        async with house.open() as manager:
            view, made = await manager.create(settings(headers={"X-Key": "k3yk3y"}), "ops")
            await manager.change("hook", {"secret": OTHER, "headers": {"X-Key": "n3wn3w"}}, "ops")
            everything = repr((view, manager.get("hook"), house.said, logs))
    assert made is not None
    assert not any(secret in everything for secret in (made[6:], OTHER[6:], "k3yk3y", "n3wn3w"))
