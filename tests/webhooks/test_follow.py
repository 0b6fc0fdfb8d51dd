"""The endpoints of a configuration file that was edited while the gateway runs: as a restart would have it, without one."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.errors import Refused, StoreError
from gateway.webhooks import record
from gateway.webhooks.manager import Followed
from tests.webhooks.fakes import SECRET, ManualClock, MemoryStore, Receiver, config, event, until
from tests.webhooks.test_manager import OTHER, House


@pytest.fixture
def house() -> House:
    return House(MemoryStore(), SystemClock())


def followed(**names: list[str]) -> Followed:
    return Followed(**{"added": [], "changed": [], "removed": [], "failed": []} | names)


async def test_added_changed_removed(house: House) -> None:
    """Each is said; what did not change is not touched, and what the API has made is none of the file's."""
    async with Receiver().serve() as receiver:
        stays, goes = config(name="stays"), config(name="goes", url=receiver.url)
        async with house.open(stays, goes) as manager:
            await manager.create({"name": "made", "url": "http://127.0.0.1:1/", "allow_private": True}, "ops")
            house.said.clear()
            at_work = house.dispatcher.endpoints["stays"]
            comes, new = config(name="comes", url=receiver.url, type="task.*"), config(name="stays", timeout=7)
            assert await manager.follow([stays, goes]) == followed()
            assert await manager.follow([comes, stays]) == followed(added=["comes"], removed=["goes"])
            assert [view.config.name for view in manager.list()] == ["comes", "made", "stays"]
            assert "goes" not in house.store.records.keys() | house.store.stored_positions.keys()
            house.commit(event(house.store.head + 1, "jobs/1"))
            await receiver.wait(1)
            assert await manager.follow([new, comes]) == followed(changed=["stays"])
            assert house.dispatcher.endpoints["stays"] is at_work
            assert manager.get("stays").config.timeout == 7
            await until(lambda: len(house.said) == 3)
        assert len(receiver.ids) == 1
    assert sorted(house.said) == [
        ("webhook.created", "comes", {"endpoint": "comes", "by": "configuration"}),
        ("webhook.deleted", "goes", {"endpoint": "goes", "by": "configuration", "pending": 0, "dead": 0}),
        ("webhook.updated", "stays", {"endpoint": "stays", "by": "configuration", "changed": ["timeout"]}),
    ]


async def patched(house: House) -> None:
    await house.manager.change("hook", {"timeout": 9, "headers": {"X-A": "a1b2"}}, "ops")


async def rotated(house: House) -> None:
    await house.manager.rotate_secret("hook", OTHER, 1000, "ops")


async def switched_off(house: House) -> None:
    await house.manager.change("hook", {"enabled": False}, "ops")


async def nothing(house: House) -> None:
    pass


@pytest.mark.parametrize("before", [nothing, patched, rotated, switched_off])
@pytest.mark.parametrize(
    "file",
    [
        None,
        {},
        {"timeout": 4},
        {"secret": OTHER},
        {"secret": OTHER, "timeout": 4},
        {"enabled": False},
        {"type": "task.failed", "progress": "none"},
    ],
)
async def test_as_after_a_restart(before: Any, file: dict[str, Any] | None) -> None:
    """Whatever the API changed before, and whatever the file says then: the same settings hold, the same secrets sign, and
    the same is kept."""
    found: list[Any] = []
    for restart in (True, False):
        house = House(MemoryStore(), ManualClock())
        files = [] if file is None else [config(**file)]
        async with house.open(config()) as manager:
            await before(house)
            if not restart:
                await manager.follow(files)
                found.append(await state(house))
        if restart:
            async with house.open(*files):
                found.append(await state(house))
    assert found[0] == found[1]


async def state(house: House) -> Any:
    """What is known of the endpoint, and kept of it."""
    await house.dispatcher.announce()
    await house.dispatcher.flush()
    views = [
        (view.config, view.origin, view.secrets, view.overlap_until, view.status.disabled)
        for view in house.manager.list()
    ]
    kept = {name: record.decode(stored) for name, stored in house.store.records.items()}
    for one in kept.values():  # how much is in the log differs: what was changed is said by `follow` alone
        one.doomed_upto = None if one.doomed_upto is None else 0
    return views, kept, sorted(house.store.stored_positions)


async def test_a_file_that_goes_back_to_a_secret_that_signs_on() -> None:
    """It signs once, and counts once."""
    third = "whsec_" + base64.b64encode(bytes(range(64, 96))).decode()
    house = House(MemoryStore(), ManualClock())
    async with Receiver().serve() as receiver, house.open(config(receiver.url)) as manager:
        await rotated(house)
        for secret in (third, SECRET):
            await manager.follow([config(receiver.url, secret=secret)])
        assert (manager.get("hook").secrets, manager.get("hook").overlap_until) == (2, house.clock.now() + 1000)
        house.commit(event(house.store.head + 1))
        await receiver.wait(1)
    ((_, headers, _),) = receiver.received
    assert len(headers["webhook-signature"].split()) == 2


async def test_switched_on_and_off(house: House) -> None:
    """`enabled` in the file: off makes dead letters of what waits, on begins with the next event; one that was disabled
    because its receiver is gone stays so, as after a restart."""
    async with Receiver().serve() as receiver, house.open(config(receiver.url)) as manager:
        assert await manager.follow([config(receiver.url, enabled=False)]) == followed(changed=["hook"])
        house.commit(event(house.store.head + 1, "jobs/1"))
        assert manager.get("hook").status.state == "disabled"
        assert await manager.follow([config(receiver.url)]) == followed(changed=["hook"])
        house.commit(event(house.store.head + 1, "jobs/2"))
        await receiver.wait(1)
        assert receiver.ids == [f"e{house.store.head}"]
        receiver.answer = lambda request, name: 410
        house.commit(event(house.store.head + 1, "jobs/3"))
        await until(lambda: manager.get("hook").status.state == "disabled")
        assert await manager.follow([config(receiver.url, timeout=3)]) == followed(changed=["hook"])
        assert manager.get("hook").status.state == "disabled"


async def test_what_is_in_flight(house: House) -> None:
    """An attempt ends where it was sent; what waits goes to the new address; none is lost or doubled."""
    gate = asyncio.Event()

    async def slow(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    async with (
        Receiver(slow).serve() as old,
        Receiver().serve() as new,
        house.open(config(old.url, concurrency=2)) as manager,
    ):
        house.commit(*[event(n, f"jobs/{n}", "task.started") for n in range(1, 9)])
        await old.wait(2)
        await manager.follow([config(new.url, concurrency=3, type="task.*")])
        await new.wait(1)
        gate.set()
        await new.wait(6)
        await until(lambda: manager.get("hook").status.pending == 0)
        assert sorted(old.ids + new.ids) == [f"e{n}" for n in range(1, 9)]


async def test_the_file_takes_a_name_over_and_gives_it_back(house: House) -> None:
    """An endpoint of the API that the file now has is the file's: it cannot be removed any more but there."""
    async with house.open() as manager:
        await manager.create({"name": "hook", "url": "http://127.0.0.1:1/", "allow_private": True}, "ops")
        with capture_logs() as logs:
            assert await manager.follow([config(timeout=4)]) == followed(changed=["hook"])
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["webhook_changes_dropped"]
        assert (manager.get("hook").origin, manager.get("hook").config.timeout) == ("file", 4)
        with pytest.raises(Refused) as refused:
            await manager.remove("hook", "ops")
        assert refused.value.code == "webhook_in_file"
        assert await manager.follow([]) == followed(removed=["hook"])
        await manager.create({"name": "hook", "url": "http://127.0.0.1:1/", "allow_private": True}, "ops")
        assert await manager.follow([]) == followed()
        assert manager.get("hook").origin == "api"


async def test_a_store_that_refuses(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be done is logged and keeps nothing else from being done; the next time it is, a removal that was left
    half-way included."""

    async def no(name: str) -> None:
        raise StoreError("no")

    async with house.open(config(name="goes"), config(name="stays")) as manager:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(house.store, "forget_endpoint", no)
            assert await manager.follow([config(name="stays", timeout=4)]) == followed(
                changed=["stays"], failed=["goes"]
            )
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert line == {
            "event": "webhook_endpoint_not_changed", "log_level": "error", "endpoint": "goes", "by": "configuration",
            "error": "no",
        }  # fmt: skip
        assert [view.config.name for view in manager.list()] == ["stays"]
        again = [config(name="goes"), config(name="stays", timeout=4)]
        assert await manager.follow(again) == followed(added=["goes"])
        house.deaf = True  # the log takes nothing, so a removal cannot be said
        assert await manager.follow(again[1:]) == followed(failed=["goes"])
        house.deaf = False
        assert await manager.follow(again) == followed(added=["goes"])
        assert [view.config.name for view in manager.list()] == ["goes", "stays"]
    async with house.open(*again) as manager:
        assert [view.config.name for view in manager.list()] == ["goes", "stays"]
