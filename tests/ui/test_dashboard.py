"""The dashboard in a browser, at started gateways."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
import pytest
from aiohttp import web

from tests.clients.kit import Gateway, free_port, serving
from tests.e2e.kit import SECRET as HOOK_SECRET
from tests.e2e.kit import Backend, get, write
from tests.process import running
from tests.ui.endpoints import Endpoints
from tests.ui.kit import (
    ADMIN,
    AUTH,
    DESK,
    PHONE,
    SECRET,
    SINGLE,
    VIEWER,
    Space,
    browsing,
    demo,
    expect,
    house,
    live,
    needs_browser,
    sign_in,
    source,
)

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = needs_browser
PAGES = ("overview", "tasks", "events", "webhooks")


async def test_everything_at_a_glance() -> None:
    """Without authentication there is no login; sources are told in words; tasks move; one is followed to its end."""
    async with demo() as url, browsing(url) as visit:
        page = visit.page
        await page.goto(url)  # leads to the dashboard
        await live(page)
        assert page.url.startswith(f"{url}/ui/")
        for name in ("studio", "jobs", "ops"):
            card = page.locator(".card", has=page.get_by_role("heading", name=name, exact=True))
            await expect(card.locator(".badge").first).to_have_text("Live")
        await expect(page.locator(".tiles li").first.locator(".more")).to_contain_text(re.compile(r"[1-9]\d* since"))
        await expect(page.locator(".chart canvas")).to_have_count(4)
        await visit.picture("overview")

        await page.get_by_role("link", name="Tasks").click()
        bar = page.locator(".row", has=page.get_by_text("running", exact=True)).get_by_role("progressbar").first
        before = str(await bar.get_attribute("aria-valuenow"))
        await expect(bar).not_to_have_attribute("aria-valuenow", before)
        await page.get_by_label("Source").select_option("studio")
        await page.get_by_label("Status").select_option("running")
        await expect(page.locator(".row").first).to_be_visible()
        assert set(await page.locator(".row .where").all_inner_texts()) == {"studio"}
        assert set(await page.locator(".row .badge").all_inner_texts()) == {"running"}
        await visit.picture("tasks")

        await page.locator(".row a").first.click()
        await expect(page.locator(".task-head .badge")).to_have_text(re.compile("succeeded|failed|cancelled"))
        assert "task.created" in await page.locator(".timeline b").all_inner_texts()
        native = page.get_by_role("group", name="native payload")
        await expect(native).to_contain_text("task_uuid")
        await visit.picture("task")


async def test_stream_of_events(tmp_path: Path) -> None:
    """It flows, is filtered, holds still when paused or looked into, and unfolds to the whole event."""
    async with house(tmp_path) as (upstream, url), browsing(url) as visit:
        page = visit.page
        await visit.to("events")
        await live(page)
        await upstream.post(*({"data": {"percent": number}} for number in range(1, 4)))
        rows = page.locator(".events .event")
        await expect(rows.filter(has_text="task.progressed")).to_have_count(3)
        await page.get_by_label("Type").select_option("source.*")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("source.connected")
        await page.get_by_label("Type").select_option("")
        await page.get_by_label("Text").fill("no such thing")
        await expect(page.locator(".empty")).to_contain_text("No event matches")
        await page.get_by_label("Text").fill("render")
        await expect(rows).to_have_count(3)

        await page.get_by_role("button", name="Pause").click()
        await upstream.post({"data": {"percent": 50}})
        await expect(page.get_by_role("status").filter(has_text="paused")).to_contain_text("1 came since")
        await expect(rows).to_have_count(3)
        await rows.first.get_by_role("button").click()
        event = page.get_by_role("group", name="event")
        await expect(event).to_contain_text("partitionkey")
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await event.get_by_role("button", name="Copy").click()
        await expect(event.get_by_role("button").first).to_have_text("Copied")
        copied = await page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
        assert copied in (await get(f"{url}/v1/events"))["items"]
        await page.get_by_role("button", name="Resume").click()
        await expect(rows).to_have_count(4)


async def test_signing_in(tmp_path: Path) -> None:
    """A bad token is refused in words, a good one is nowhere but in this tab; its end is told; there is a way out."""
    token = jwt.encode({"sub": "ada", "scope": "admin", "exp": int(time.time()) + 3000}, SECRET)
    async with house(tmp_path, auth=AUTH) as (_, url), browsing(url) as visit:
        page = visit.page
        await visit.to("tasks")
        await visit.picture("login")
        assert await visit.axe() == []
        await sign_in(page, "not the token")
        await expect(page.get_by_role("alert")).to_contain_text("no spaces")
        await sign_in(page, "wrong")
        await expect(page.get_by_role("alert")).to_contain_text("not valid")
        await sign_in(page, token)
        await live(page)
        await expect(page.locator(".expiry")).to_have_text("token good for 50 min")
        await page.reload()
        await live(page)
        assert token not in "".join([page.url, *visit.requests])
        assert await page.evaluate("[Object.values(sessionStorage), Object.keys(localStorage)]") == [[token], []]
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Token")).to_be_focused()
        assert await page.evaluate("sessionStorage.length") == 0


async def test_an_expired_token_leads_back_to_the_login(tmp_path: Path) -> None:
    """The gateway ends the stream with 4009; the page says why it asks again."""
    async with house(tmp_path, auth=AUTH) as (_, url), browsing(url) as visit:
        await visit.to("events")
        await expect(visit.page.get_by_label("Token")).to_be_visible()
        token = jwt.encode({"scope": "events:read", "exp": int(time.time()) + 12}, SECRET)
        await sign_in(visit.page, token)
        await live(visit.page)
        await expect(visit.page.locator(".expiry")).to_have_class("expiry soon")
        await expect(visit.page.get_by_role("alert")).to_contain_text(re.compile("expired|no longer"))
        await expect(visit.page.get_by_label("Token")).to_be_visible()


async def test_what_the_scope_leaves_out_is_said(tmp_path: Path) -> None:
    """A token for single tasks has one task at a time, live, without its payloads."""
    async with house(tmp_path, auth=AUTH) as (upstream, url), browsing(url) as visit:
        page = visit.page
        await visit.to("overview")
        await sign_in(page, SINGLE)
        await expect(page.locator(".note").first).to_contain_text("with the scope events:read")
        await visit.picture("scope")
        await page.get_by_role("link", name="Tasks").click()
        await expect(page.locator(".note").first).to_contain_text("with the scope events:read")
        await upstream.post({"data": {"percent": 10}}, {"data": {"percent": 20}})
        await page.get_by_label("Task key").fill("jobs/job-1")
        await page.get_by_role("button", name="Open").click()
        bar = page.locator(".task-head").get_by_role("progressbar")
        await expect(bar).to_have_attribute("aria-valuenow", "20")
        await live(page)
        await upstream.post({"data": {"percent": 30}})
        await expect(bar).to_have_attribute("aria-valuenow", "30")
        await expect(page.get_by_text("hidden from your token")).to_be_visible()
        await expect(page.get_by_role("heading", name="As the upstream said it")).to_have_count(0)


HOSTILE = "<img src=x onerror='pwned=1'>\u202etxt.exe\u0000\u001b[31m\u200b" + "W" * 70_000


async def test_hostile_texts_are_only_read(tmp_path: Path) -> None:
    """Markup, control characters, turned writing and huge texts are shown as what they are, and widen nothing."""
    async with house(tmp_path) as (upstream, url), browsing(url, size=PHONE) as visit:
        page = visit.page
        await visit.to("tasks")
        await live(page)
        for job in ("<script>pwned=1</script>", "job-\u202e2", "__proto__"):
            await upstream.post(
                {
                    "jobId": job,
                    "jobName": HOSTILE,
                    "data": {"percent": 5, "step": HOSTILE, "__proto__": HOSTILE, "\u202e": [HOSTILE]},
                },
                {"jobId": job, "jobName": HOSTILE, "type": "dead", "status": "dead", "data": {"error": HOSTILE}},
            )
        await expect(page.locator(".row")).to_have_count(3)
        await expect(page.locator(".row").first).to_contain_text("<img src=x onerror='pwned=1'>\\u202etxt.exe\\u0000")
        assert await visit.overflow() <= 0
        await visit.picture("hostile")
        await page.locator(".row a").first.click()
        await expect(page.locator(".task-head .badge")).to_have_text("failed")
        await page.locator(".timeline .line").first.click()
        assert await visit.overflow() <= 0
        await page.get_by_role("link", name="Events").click()
        await page.locator(".events .line").first.click()
        event = page.get_by_role("group", name="event")
        await event.get_by_text("task: {").click()
        await expect(event).to_contain_text("more characters, in the copy")
        assert await visit.overflow() <= 0
        assert await page.locator("#app img, #app script, #app iframe").count() == 0
        assert await page.evaluate("typeof pwned") == "undefined"
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u0000\u001b]", await page.locator("body").inner_text())


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_accessible_in_both_themes(tmp_path: Path, scheme: Any) -> None:
    """No rule of WCAG 2 AA is broken on any page, contrast included."""
    async with house(tmp_path) as (upstream, url), browsing(url, color_scheme=scheme, reduced_motion="reduce") as visit:
        page = visit.page
        await Endpoints().install(page)
        await visit.to("overview")
        await live(page)
        await upstream.post(
            {"data": {"percent": 10, "step": "one"}}, {"type": "dead", "status": "dead", "data": {"error": "no"}}
        )
        for place in (*PAGES, "tasks/jobs/job-1", "webhooks/crm", "nowhere"):
            await visit.to(place)
            await expect(page.locator(".loading")).to_have_count(0)
            for line in await page.locator(".line").all():
                await line.click()
            await page.evaluate("scrollTo(0, 0)")  # so that nothing is half below the header
            await visit.picture(f"{scheme}-{place.replace('/', '-')}")
            assert await visit.axe() == [], place


async def test_dark_mode_by_system_and_by_choice(tmp_path: Path) -> None:
    """The system's wish holds until somebody chooses; the choice lasts."""
    background = "getComputedStyle(document.body).backgroundColor"
    async with house(tmp_path) as (_, url), browsing(url, color_scheme="dark") as visit:
        page = visit.page
        await visit.to("overview")
        await live(page)
        dark = await page.evaluate(background)
        await page.get_by_role("button", name="Theme: as the system").click()
        light = await page.evaluate(background)
        assert (dark, light) == ("rgb(18, 21, 26)", "rgb(247, 247, 245)")
        await page.reload()
        await expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        assert await page.evaluate(background) == light
        await page.get_by_role("button", name="Theme: light").click()
        assert await page.evaluate(background) == dark


async def test_by_keyboard_alone(tmp_path: Path) -> None:
    """From the login to a retried delivery without a mouse; the focus goes where the page goes, and comes back."""
    async with house(tmp_path, auth=AUTH) as (_, url), browsing(url) as visit:
        page, keys, endpoints = visit.page, visit.page.keyboard, Endpoints()
        await endpoints.install(page)
        await visit.to("overview")
        await expect(page.get_by_label("Token")).to_be_focused()
        await keys.type(ADMIN)
        await keys.press("Enter")
        await live(page)
        await keys.press("Tab")
        await expect(page.get_by_text("Skip to the content")).to_be_focused()
        await keys.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await _tab_to(page, "Webhooks, 2 need attention", back=True)
        await keys.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await expect(page).to_have_title("Webhooks · Mainstem")
        await _tab_to(page, "crm")
        await keys.press("Enter")
        await expect(page.get_by_role("heading", name="Deliveries")).to_be_visible()
        await _tab_to(page, "Retry delivery crm.12")
        await keys.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await keys.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.get_by_role("button", name="Retry delivery crm.12")).to_be_focused()
        assert endpoints.asked == []
        await keys.press("Enter")
        await _tab_to(page, "Retry")
        await keys.press("Enter")
        await expect(page.get_by_role("dialog")).to_contain_text("It is pending now.")
        assert endpoints.asked == [("POST", "deliveries/crm.12/retry", None)]


async def _tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Presses Tab until something of a name has the focus."""
    of_focus = "(document.activeElement.ariaLabel ?? document.activeElement.textContent ?? '').trim()"
    for _ in range(60):
        if await page.evaluate(of_focus) == name:
            return
        await page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"{name} cannot be reached by keyboard")


async def test_webhooks_and_what_can_be_done_about_them(tmp_path: Path) -> None:
    """State, backlog, errors and attempts are told; nothing is done without being confirmed, and what came of it is said."""
    async with house(tmp_path) as (_, url), browsing(url) as visit:
        page, endpoints = visit.page, Endpoints()
        await endpoints.install(page)
        await visit.to("webhooks")
        crm = page.locator(".card", has=page.get_by_role("link", name="crm", exact=True))
        for words in ("Failing", "Every attempt has failed for", "HTTP 500", "Backlog", "7"):
            await expect(crm).to_contain_text(words)
        await expect(page.locator(".card").first).to_contain_text("Nothing is sent: the receiver said 410.")
        await visit.picture("webhooks")

        async def confirm(button: str, dialog: str, said: str) -> None:
            await page.get_by_role("button", name=button).click()
            title = await page.get_by_role("dialog").get_by_role("heading").inner_text()
            await page.get_by_role("dialog").get_by_role("button", name=dialog, exact=True).click()
            await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text(said)
            await expect(page.get_by_role("dialog").get_by_role("heading")).not_to_have_text(title)
            await page.get_by_role("dialog").get_by_role("button", name="Close").click()

        await confirm("Send a test to billing", "Send a test", "Delivered in 3.1 ms: the receiver answered HTTP 204.")
        await confirm("Enable audit", "Enable", "It is delivering.")
        await confirm("Retry dead letters of crm", "Retry dead letters", "2 dead letters will be sent again.")
        await confirm(
            "Replay events to crm", "Replay", "after position 7 are sent again. The log does not reach back further"
        )
        await page.get_by_role("button", name="Replay events to crm").click()
        await page.get_by_role("button", name="Cancel").click()
        await crm.get_by_role("link", name="2", exact=True).click()
        deliveries = page.locator(".deliveries .event")
        await expect(deliveries).to_have_count(2)
        await deliveries.first.locator(".line").click()
        await expect(page.get_by_role("group", name="Attempts")).to_contain_text("<b>out of order</b>")
        await visit.picture("dead-letters")
        await confirm("Retry delivery crm.12", "Retry", "It is pending now.")
        await expect(deliveries).to_have_count(1)
        assert endpoints.asked == [
            ("POST", "webhooks/billing/test", None),
            ("POST", "webhooks/audit/enable", None),
            ("POST", "webhooks/crm/retry", None),
            ("POST", "webhooks/crm/replay", {"since": "24h"}),
            ("POST", "deliveries/crm.12/retry", None),
        ]


async def test_what_is_stuck_is_said_on_every_page(tmp_path: Path) -> None:
    """The overview counts endpoints and dead letters in the colour of a warning; the tab has a badge while there is a reason."""
    async with house(tmp_path) as (_, url), browsing(url) as visit:
        page, endpoints = visit.page, Endpoints()
        endpoints.endpoints["crm"]["health"].update(state="paused", pending=304, dead=86)
        await endpoints.install(page)
        await visit.to("overview")
        tile = page.locator(".tiles li", has=page.get_by_role("link", name="Webhooks"))
        await expect(tile.locator("strong")).to_have_text("1 paused")
        await expect(tile.locator("strong")).to_have_attribute("data-tone", "warn")
        await expect(tile.locator(".more")).to_have_text("1 disabled, 1 delivering, 86 dead letters, backlog 304")
        tab = page.get_by_role("navigation").get_by_role("link", name="Webhooks")
        await expect(tab).to_have_text("Webhooks, 2 need attention")
        endpoints.endpoints = {"billing": endpoints.endpoints["billing"]}
        await expect(tile.locator("strong")).to_have_text("1 delivering")
        await expect(tab).to_have_text("Webhooks")
        await tile.get_by_role("link").click()
        await expect(page.locator(".card")).to_have_count(1)


async def test_a_failed_test_says_why_and_a_dialog_goes_with_its_page(tmp_path: Path) -> None:
    async with house(tmp_path) as (_, url), browsing(url) as visit:
        page, endpoints = visit.page, Endpoints()
        endpoints.outcome = "dead"
        await endpoints.install(page)
        await visit.to("webhooks")
        await page.get_by_role("button", name="Send a test to billing").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Send a test").click()
        await expect(dialog.get_by_role("heading")).to_have_text("The test has failed")
        await expect(dialog.get_by_role("status")).to_have_text("The first attempt failed in 13 ms: HTTP 500.")
        await page.evaluate("location.hash = '#/overview'")
        await expect(dialog).to_have_count(0)
        await expect(page.get_by_role("heading", name="Sources")).to_be_visible()


async def test_a_retry_of_what_was_delivered_is_behind_its_details(tmp_path: Path) -> None:
    async with house(tmp_path) as (_, url), browsing(url) as visit:
        page = visit.page
        await Endpoints().install(page)
        await visit.to("webhooks/crm")
        retry = page.get_by_role("button", name="Retry delivery crm.10")
        await expect(page.get_by_role("button", name="Retry delivery crm.11")).to_be_visible()
        await expect(retry).to_have_count(0)
        await page.locator(".deliveries .line").last.click()
        await expect(retry).to_be_visible()


def _gap(sequence: int, recovered: bool, unverified: list[str]) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"gap_{sequence}", "source": "/mainstem", "type": "source.gap", "subject": "jobs",
        "time": "2026-01-02T03:08:05.000000Z", "datacontenttype": "application/json", "dataschema": "x",
        "sequence": f"{sequence:020d}",
        "data": {
            "source": "jobs", "adapter": "emit", "endpoint": "/s", "from": "2026-01-02T03:04:05.000000Z",
            "to": "2026-01-02T03:08:05.000000Z", "recovered": recovered, "unverified": unverified,
        },
    }  # fmt: skip


async def test_gaps_are_told_in_words_and_found_in_the_log(tmp_path: Path) -> None:
    """When, how long, whether all is known again, and which tasks are not; the link leads to the gaps, however old."""
    gaps = [_gap(0, True, []), _gap(1, False, ["job-a", "job-b", "job-c", "job-d"])]

    async def answer(route: Any) -> None:
        if "type=source.gap" in route.request.url:
            await route.fulfill(json={"items": gaps, "next": None, "position": "00000000000000000001"})
        else:
            await route.fallback()

    async with house(tmp_path) as (_, url), browsing(url, timezone_id="UTC") as visit:
        page = visit.page
        await page.route("**/v1/events**", answer)
        await visit.to("overview")
        told = page.locator(".card .tone")
        await expect(told).to_have_text(
            re.compile(
                r"\s*Last gap: 2 Jan 2026, 03:04:05, for 4 min\.\s+Not recovered: 4 tasks are unverified:\s+"
                r"job-a\s+job-b\s+job-c\s+and 1 more\.\s+All gaps\s*"
            )
        )
        await expect(told).to_have_attribute("data-tone", "warn")
        await expect(told.get_by_role("link", name="job-b")).to_have_attribute("href", "#/tasks/jobs/job-b")
        await visit.picture("gap")
        await told.get_by_role("link", name="All gaps").click()
        await expect(page.get_by_label("Type")).to_have_value("source.gap")
        rows = page.get_by_role("list", name="Older events").locator(".event")
        await expect(rows).to_have_count(1)  # what this page has begins at the second position
        await expect(rows).to_contain_text("states were repaired")


async def test_silent_tasks_are_marked_and_found(tmp_path: Path) -> None:
    """What runs and says nothing for long is marked; what has ended is never silent, and is sorted by the time that is shown."""
    async with house(tmp_path) as (upstream, url), browsing(url) as visit:
        page = visit.page
        await page.clock.install()
        await visit.to("tasks")
        await live(page)
        await upstream.post(
            {"jobId": "slow"}, {"jobId": "over-1"}, {"jobId": "over-2"},
            *({"jobId": job, "type": "completed", "status": "completed"} for job in ("over-2", "over-1")),
        )  # fmt: skip
        over = page.get_by_role("list", name="Ended").locator(".what .mono")
        await expect(over).to_have_text(["over-1", "over-2"])
        await expect(page.get_by_test_id("ended")).to_have_text("showing 2 of the last 2; older ones below")
        await expect(page.locator(".silent")).to_have_count(0)
        await page.clock.fast_forward("03:00")
        await expect(page.locator(".silent")).to_have_text("silent for 3 min")
        await page.get_by_label("Last heard").select_option("silent")
        await expect(page.locator(".row .what .mono")).to_have_text(["slow"])
        await page.get_by_role("link", name="Overview", exact=True).click()
        await expect(page.get_by_role("link", name="1 silent")).to_be_visible()


async def test_a_real_dead_letter_is_retried(tmp_path: Path) -> None:
    """Nothing is played here: a receiver fails, the page tells of it and tries again, the receiver gets it."""
    async with Backend().running() as backend:
        backend.status = 500
        hook = {
            "name": "billing", "url": backend.url, "secret": HOOK_SECRET, "allow_private": True,
            "retry_schedule": [0.05], "type": ["task.failed"],
        }  # fmt: skip
        async with house(tmp_path, webhooks=[hook], auth=AUTH) as (upstream, url), browsing(url) as visit:
            page = visit.page
            await visit.to("webhooks")
            await sign_in(page, VIEWER)
            await expect(page.locator(".note")).to_contain_text("with the scope webhooks:write")
            await expect(page.locator(".card")).to_have_count(0)
            await page.get_by_role("button", name="Sign out").click()
            await sign_in(page, ADMIN)
            await upstream.post({"type": "dead", "status": "dead", "data": {"error": "no"}})
            await page.locator(".card").get_by_role("link", name="1", exact=True).click()
            letter = page.locator(".deliveries .event")
            await expect(letter).to_contain_text("2 attempts")
            await letter.locator(".line").click()
            await expect(page.get_by_role("group", name="Attempts")).to_contain_text("HTTP 500")
            backend.status = 204
            await letter.get_by_role("button", name="Retry").click()
            await page.get_by_role("dialog").get_by_role("button", name="Retry", exact=True).click()
            await expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("now.")
            await page.get_by_role("dialog").get_by_role("button", name="Close").click()
            await backend.received(3)
            await page.get_by_label("State").select_option("delivered")
            await expect(letter).to_contain_text("3 attempts")
            assert len({headers["webhook-id"] for headers, _ in backend.requests}) == 1


async def test_empty_places_say_what_would_fill_them(tmp_path: Path) -> None:
    """A gateway without anything."""
    async with running(write(tmp_path, sources=[])) as url, browsing(url) as visit:
        page, endpoints = visit.page, Endpoints()
        endpoints.endpoints.clear()
        await endpoints.install(page)
        for place, words in (
            ("overview", "No sources configured"),
            ("tasks", "No tasks yet"),
            ("events", "Nothing has happened yet"),
            ("webhooks", "No webhooks configured"),
            ("tasks/jobs/none", "There is no such task"),
            ("nothing", "There is no such page"),
        ):
            await visit.to(place)
            await expect(page.locator("main")).to_contain_text(words)
            await visit.picture(f"empty-{place.replace('/', '-')}")


async def test_errors_are_told_in_words_and_pass(tmp_path: Path) -> None:
    """A refused source, no metrics, a gateway that goes and comes back: the page says so, and goes on where it was."""
    async with Space().running() as upstream:
        bad = {
            "name": "bad",
            "adapter": "triverse",
            "url": upstream.url.replace("http", "ws"),
            "token": "t",
            "watch": "all",
        }
        config = write(tmp_path, server={"port": free_port(), "drain_timeout": 1}, sources=[source(upstream), bad])
        home = Gateway(config)
        try:
            await home.start()
            async with browsing(home.url) as visit:
                page = visit.page
                await page.route("**/metrics", lambda route: route.fulfill(status=404, body="not here"))
                await visit.to("overview")
                await live(page)
                card = page.locator(".card", has=page.get_by_role("heading", name="bad", exact=True))
                await expect(card.locator(".error").first).to_contain_text("404")
                await expect(page.locator(".note", has_text="/metrics")).to_contain_text(
                    "/metrics is not reachable from here"
                )
                await visit.picture("errors")
                await asyncio.gather(
                    home.stop(), expect(page.locator(".note", has_text="The stream was cut.")).to_be_visible()
                )
                await visit.picture("cut")
                await home.start()
                await live(page)
                await upstream.post({"data": {"percent": 77}})  # type: ignore[attr-defined]
                await page.get_by_role("link", name="Tasks").click()
                await expect(page.locator(".row").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "77")
        finally:
            await home.kill()


async def test_a_page_of_a_refused_origin_says_so(tmp_path: Path) -> None:
    """Origins are configured, and the gateway's own is not among them: then not even the page's own modules are served. The
    gateway's reason is shown, and what has to be done about it."""
    server = {"port": 0, "allowed_origins": ["https://app.example.com"]}
    async with house(tmp_path, server=server) as (_, url), browsing(url) as visit:
        await visit.to("overview")
        alert = visit.page.get_by_role("alert")
        await expect(alert).to_contain_text(f"server.allowed_origins has to include {url}.")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{url}/v1/sources", headers={"Origin": url}) as answer,
        ):
            refusal = await answer.json()
        await expect(alert).to_contain_text(refusal["detail"])
        await visit.picture("refused-origin")


async def test_a_page_that_is_not_loaded_says_so(tmp_path: Path) -> None:
    """Something cuts the page's own modules off: no origin is blamed for it."""
    async with house(tmp_path) as (_, url), browsing(url) as visit:
        await visit.page.route("**/ui/tasks.js", lambda route: route.abort())
        await visit.to("overview")
        await expect(visit.page.get_by_role("alert")).to_contain_text("The dashboard could not be loaded.")
        await expect(visit.page.get_by_role("alert")).not_to_contain_text("allowed_origins")


async def test_a_refused_origin_is_named_where_modules_are_let_in(tmp_path: Path) -> None:
    """Some browsers name no origin when they ask for a module: then it is the stream and each change that is refused."""
    refusal = {"status": 403, "code": "origin_refused", "detail": "Pages of it may not."}

    async def answer(route: Any) -> None:
        if route.request.method == "GET":
            await route.fallback()
        else:
            await route.fulfill(status=403, json=refusal)

    async with house(tmp_path) as (_, url), browsing(url) as visit:
        page = visit.page
        await Endpoints().install(page)
        await page.route("**/v1/**", answer)
        await page.route_web_socket("**/v1/stream**", lambda socket: socket.close(code=1006))
        await visit.to("webhooks")
        await page.get_by_role("button", name="Send a test to billing").click()
        await page.get_by_role("dialog").get_by_role("button", name="Send a test").click()
        for place in (page.get_by_role("dialog"), page.locator("main > .note")):
            await expect(place).to_contain_text("Pages of it may not.")
            await expect(place).to_contain_text(f"server.allowed_origins has to include {url}.")


async def test_a_stream_that_cannot_be_opened_names_causes(tmp_path: Path) -> None:
    """A proxy that passes on no upgrade: HTTP works, the stream does not."""
    async with house(tmp_path) as (_, url), browsing(url) as visit:
        await visit.page.route_web_socket("**/v1/stream**", lambda socket: socket.close(code=1011))
        await visit.to("overview")
        await expect(visit.page.locator(".note")).to_contain_text("Do proxies pass on WebSocket upgrades?")


async def test_a_mistake_in_one_page_ends_no_other(tmp_path: Path) -> None:
    """An answer that no page can draw is said to be one; the others go on."""
    async with house(tmp_path) as (_, url), browsing(url) as visit:
        page = visit.page
        await page.route("**/v1/sources", lambda route: route.fulfill(json={"items": [None], "next": None}))
        await visit.to("overview")
        await expect(page.get_by_role("alert")).to_contain_text("This page cannot draw what the gateway answered")
        await page.get_by_role("link", name="Events").click()
        await expect(page.locator(".events .event")).to_contain_text("source.connected")
        assert all("TypeError" in mistake for mistake in visit.mistakes)
        visit.mistakes.clear()


async def test_a_large_event_is_fetched_when_it_is_looked_at(tmp_path: Path) -> None:
    """It is kept without its payloads, in the stream and in a timeline."""
    async with house(tmp_path) as (upstream, url), browsing(url) as visit:
        page = visit.page
        await visit.to("events")
        await live(page)
        await upstream.post({"data": {"percent": 5, "log": "L" * 100_000}})
        await page.locator(".event").filter(has_text="task.progressed").get_by_role("button").click()
        await expect(page.get_by_role("group", name="event")).to_contain_text("partitionkey")
        await page.get_by_role("link", name="The whole story of this task").click()
        await page.locator(".timeline .line").click()
        await expect(page.get_by_role("group", name="detail")).to_contain_text("96,000 more characters")
        assert len([request for request in visit.requests if "limit=1" in request.split("&")]) == 2


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_below_a_path_and_in_a_small_window(tmp_path: Path, size: tuple[int, int]) -> None:
    """A proxy has put the gateway below a path; nothing is wider than the window."""
    async with (
        house(tmp_path) as (upstream, url),
        _below(url, "/tools/gate") as proxied,
        browsing(proxied, size=size) as visit,
    ):
        page = visit.page
        await Endpoints().install(page)
        await page.goto(f"{proxied}/ui")
        await live(page)
        await upstream.post({"data": {"percent": 10}}, {"type": "dead", "status": "dead", "data": {"error": "no"}})
        for place in (*PAGES, "tasks/jobs/job-1", "webhooks/crm"):
            await visit.to(place)
            await expect(page.locator(".loading")).to_have_count(0)
            assert await visit.overflow() <= 0, place
            await visit.picture(f"{size[0]}-{place.replace('/', '-')}")


@asynccontextmanager
async def _below(target: str, prefix: str) -> AsyncIterator[str]:
    """The base URL of a proxy that serves a gateway below a path."""

    async def handle(request: web.Request) -> web.StreamResponse:
        url = target + str(request.rel_url).removeprefix(prefix)
        headers = {
            name: value for name, value in request.headers.items() if name not in ("Host", "Origin", "Accept-Encoding")
        }
        if request.headers.get("Upgrade") == "websocket":
            return await _relay(request, url)
        async with session.request(
            request.method, url, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name not in ("Content-Length", "Content-Encoding", "Transfer-Encoding")
            }
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def _relay(request: web.Request, url: str) -> web.WebSocketResponse:
        near = web.WebSocketResponse(protocols=["cloudevents.json"])
        await near.prepare(request)
        async with session.ws_connect(url, protocols=["cloudevents.json"]) as far:

            async def up() -> None:
                async for message in near:
                    await far.send_str(message.data)
                await far.close()

            sending = asyncio.create_task(up(), name="proxy-up")
            async for message in far:
                await near.send_str(message.data)
            await near.close()
            await sending
        return near

    app = web.Application()
    app.router.add_route("*", f"{prefix}/{{rest:.*}}", handle)
    async with aiohttp.ClientSession() as session, serving(app) as base:
        yield base + prefix


COUNT_DRAWINGS = """(list) => {
  const seen = { drawings: 0, began: performance.now(), most: 0 };
  new MutationObserver(() => { seen.drawings++; seen.most = Math.max(seen.most, list.children.length); })
    .observe(list, { childList: true });
  globalThis.seen = seen;
}"""


async def test_a_flood_is_sampled_and_says_so(tmp_path: Path) -> None:
    """Thousands of events at once: few drawings, bounded lists, an honest word, and little work per event.

    Work is the CPU time of the page's thread, held against that of decoding the same events alone in the same browser, and
    against the number of drawings, which goes by the clock: so a slow or busy machine changes nothing.
    """
    total, step = 6000, 40
    frames: asyncio.Queue[None] = asyncio.Queue()  # one for each message that the browser got
    async with house(tmp_path) as (upstream, url), browsing(url) as visit:
        page = visit.page
        page.on("websocket", lambda socket: socket.on("framereceived", lambda _: frames.put_nowait(None)))
        await visit.to("events")
        await live(page)
        await upstream.post({"jobId": "j-0"})
        await expect(page.locator(".events .event").filter(has_text="j-0")).to_have_count(1)
        await page.locator(".events").first.evaluate(COUNT_DRAWINGS)
        cdp = await page.context.new_cdp_session(page)
        await cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

        async def spent() -> float:
            metrics = (await cdp.send("Performance.getMetrics"))["metrics"]
            return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

        before = await spent()
        while not frames.empty():
            frames.get_nowait()
        for number in range(0, total, step):
            await upstream.post(*({"jobId": f"j-{one}"} for one in range(number + 1, number + 1 + step)))
            for _ in range(step):
                await frames.get()
        await expect(page.locator(".sampled")).to_have_text(re.compile(r"showing 1 of \d+; pause to see all"))
        await visit.picture("flood")
        await upstream.post({"jobId": "the-last-one"})
        await _arrived(page, "the-last-one")
        work = await spent() - before
        seen = await page.evaluate("({ ...seen, took: performance.now() - seen.began })")
        assert seen["most"] <= 100
        assert seen["drawings"] <= seen["took"] / 1000 * 10 + 2
        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("status").filter(has_text="paused")).to_contain_text("of 1,000")

        await page.get_by_role("link", name="Tasks").click()
        await expect(page.locator(".note")).to_contain_text("more unfinished tasks than this page keeps")
        shown = re.fullmatch(r"showing 100 of ([\d,]+)", await page.get_by_test_id("shown").inner_text())
        assert shown is not None
        assert int(shown[1].replace(",", "")) <= 2000

        body = (await get(f"{url}/v1/events?limit=1&after=100"))["items"][0]
        reference = await spent()
        await page.evaluate(
            "([body, total]) => { for (let n = 0; n < total; n++) JSON.parse(body); }", [json.dumps(body), 20 * total]
        )
        decoding = await spent() - reference
        print(
            f"{work:.2f} s of CPU for {total} events and {seen['drawings']} drawings, {decoding:.2f} s for decoding 20 times"
        )
        assert work < decoding * (5 + seen["drawings"] / 10)


async def test_tasks_that_move_are_drawn_at_a_pace(tmp_path: Path) -> None:
    """A hundred rows change places with every event: they are drawn a few times a second, and end up right."""
    async with house(tmp_path) as (upstream, url), browsing(url) as visit:
        page = visit.page
        await visit.to("tasks")
        await live(page)
        await page.locator(".tasks").first.evaluate(COUNT_DRAWINGS)
        for number in range(60):
            await upstream.post(*({"jobId": f"j-{number}-{one}"} for one in range(5)))
        await expect(page.get_by_test_id("shown")).to_have_text("showing 100 of 300")
        await expect(page.locator(".row .what .mono").first).to_have_text("j-59-4")
        seen = await page.evaluate("({ ...seen, took: performance.now() - seen.began })")
        assert seen["most"] == 100
        assert seen["drawings"] <= seen["took"] / 1000 * 4 + 2


async def _arrived(page: Page, words: str) -> None:
    """Returns once the newest event that was said is known to the page."""
    await page.get_by_label("Text").fill(words)
    await expect(page.locator(".events .event").filter(has_text=words).first).to_be_visible()
    await page.get_by_label("Text").fill("")
