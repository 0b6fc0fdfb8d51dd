"""Endpoints are made, changed and taken away in a browser, at started gateways: nothing of the API is played."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.kit import PATIENCE
from tests.e2e.kit import SECRET, Backend, get, write
from tests.process import running
from tests.ui.kit import DESK, PHONE, Visit, browsing, expect, needs_browser

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

pytestmark = needs_browser


def _dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


async def _press(page: Page, name: str) -> None:
    """A button of the open dialog."""
    await _dialog(page).get_by_role("button", name=name, exact=True).click()


async def _wrong(page: Page, label: str, words: str) -> None:
    """Returns once a field says, to everybody, what is wrong with it."""
    field = _dialog(page).get_by_label(label, exact=True)
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(field).to_have_accessible_description(re.compile(re.escape(words)))


def _asked(visit: Visit) -> list[tuple[str, Any]]:
    """Changes that are asked for from now on."""
    asked: list[tuple[str, Any]] = []
    visit.page.on(
        "request",
        lambda request: (
            asked.append((request.method, request.post_data_json if request.post_data else None))
            if request.method not in ("GET", "OPTIONS")
            else None
        ),
    )
    return asked


async def test_an_endpoint_from_its_making_to_its_end(tmp_path: Path) -> None:
    """Made, refused and corrected, tested, changed, given another secret, disabled, enabled, deleted."""
    async with Backend().running() as backend, running(write(tmp_path, sources=[])) as url, browsing(url) as visit:
        page, asked = visit.page, _asked(visit)
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await visit.to("webhooks")
        await expect(page.locator(".empty")).to_contain_text("No webhooks configured")
        await page.get_by_role("button", name="New endpoint").click()
        await expect(_dialog(page).get_by_label("Name", exact=True)).to_be_focused()
        await _press(page, "Create")
        await _wrong(page, "Name", "Is required")
        await _wrong(page, "URL", "Is required")
        await expect(_dialog(page).get_by_label("Name", exact=True)).to_be_focused()
        await expect(_dialog(page).get_by_role("alert")).to_contain_text("Nothing was changed")

        for label, words in {
            "Name": "audit",
            "URL": backend.url,
            "Types": "task.failed, webhook.nothing",
            "In flight at once": "five",
            "Seconds to wait after each failed attempt": "5, x, -1",
            "Headers": "Host: elsewhere",
        }.items():
            await _dialog(page).get_by_label(label, exact=True).fill(words)
        await _press(page, "Create")
        await _wrong(page, "URL", "needs allow_private")
        await _wrong(page, "In flight at once", "integer")
        await _wrong(
            page, "Seconds to wait after each failed attempt", "Value 2 must be a valid number; value 3 must be"
        )
        await _wrong(page, "Headers", "Host: is reserved")
        await expect(_dialog(page).get_by_label("URL", exact=True)).to_be_focused()
        await expect(_dialog(page).get_by_label("Name", exact=True)).to_have_value("audit")
        await visit.picture("endpoint-refused")

        await _dialog(page).get_by_label("allow_private").check()
        await _dialog(page).get_by_label("failed", exact=True).check()
        await _dialog(page).get_by_label("In flight at once").fill("5")
        await _dialog(page).get_by_label("Seconds to wait after each failed attempt").fill("0.5 60")
        await _dialog(page).get_by_label("Headers", exact=True).fill("Authorization: Bearer x\nX-Tenant: acme")
        await _press(page, "Create")
        await expect(_dialog(page).get_by_role("status")).to_contain_text(
            "audit gets events from the next one on. But no event has the type 'webhook.nothing'"
        )
        first = await _dialog(page).locator(".secret code").inner_text()
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", first)
        await visit.picture("endpoint-created")
        await _press(page, "Close")
        await expect(page.get_by_role("heading", name="audit", exact=True)).to_be_visible()
        made = {
            "name": "audit", "url": backend.url, "type": ["task.failed", "webhook.nothing"], "status": ["failed"],
            "concurrency": 5, "retry_schedule": [0.5, 60], "allow_private": True,
            "headers": {"Authorization": "Bearer x", "X-Tenant": "acme"},
        }  # fmt: skip
        assert asked[-1] == ("POST", made)

        await page.get_by_role("button", name="Send a test to audit").click()
        await _press(page, "Send a test")
        await expect(_dialog(page).get_by_role("status")).to_contain_text("HTTP 204")
        await _press(page, "Close")
        await backend.received(1)
        assert backend.requests[0][0]["x-tenant"] == "acme"

        await page.get_by_role("button", name="Edit audit").click()
        await _press(page, "Save")
        await expect(_dialog(page).get_by_role("heading")).to_have_text("Nothing was changed")
        await _press(page, "Close")
        await page.get_by_role("button", name="Edit audit").click()
        await _dialog(page).get_by_label("Types", exact=True).fill("task.*")
        await _dialog(page).get_by_label("Requests a second").fill("2.5")
        await _dialog(page).get_by_label("Remove X-Tenant").check()
        await _press(page, "Save")
        await expect(_dialog(page).get_by_role("status")).to_have_text(
            "Changed: type, rate_limit and headers. The new filter holds from the next event on."
        )
        await _press(page, "Close")
        assert asked[-1] == ("PATCH", {"type": ["task.*"], "rate_limit": 2.5, "headers": {"X-Tenant": None}})
        endpoint = await get(f"{url}/v1/webhooks/audit")
        assert (endpoint["type"], endpoint["rate_limit"], [*endpoint["headers"]]) == (
            ["task.*"],
            2.5,
            ["Authorization"],
        )

        await page.get_by_role("button", name="Rotate the secret of audit").click()
        await _press(page, "Rotate")
        await expect(_dialog(page).get_by_role("status")).to_contain_text("Both sign for the next 24 hours")
        second = await _dialog(page).locator(".secret code").inner_text()
        assert second != first
        await _dialog(page).get_by_role("button", name="Copy the secret").click()
        await expect(_dialog(page).get_by_role("button", name="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == second
        await _press(page, "Close")
        await expect(page.locator("dialog")).to_have_count(0)  # a closed one has no role, and is there for a moment
        assert first not in (content := await page.content())
        assert second not in content
        await page.get_by_text("Settings", exact=True).click()
        await expect(page.locator(".settings")).to_contain_text(re.compile("Secrets that sign.*2, until"))
        await visit.picture("endpoint-settings")

        await page.get_by_role("button", name="Disable audit").click()
        await _press(page, "Disable")
        await expect(_dialog(page).get_by_role("heading")).to_have_text("The endpoint is disabled")
        await _press(page, "Close")
        await expect(page.get_by_role("button", name="Disable audit")).to_have_count(0)
        assert (await get(f"{url}/v1/webhooks/audit"))["enabled"] is False
        await page.get_by_role("button", name="Enable audit").click()
        await _press(page, "Enable")
        await _press(page, "Close")
        await expect(page.get_by_role("button", name="Disable audit")).to_be_visible()

        asked.clear()
        await page.get_by_role("button", name="Delete audit").click()
        await _dialog(page).get_by_label("Its name").fill("audi")
        await _press(page, "Delete")
        assert await _dialog(page).get_by_label("Its name").evaluate("field => field.validity.customError")
        assert asked == []
        await visit.picture("endpoint-delete")
        await _dialog(page).get_by_label("Its name").fill("audit")
        await _press(page, "Delete")
        await expect(_dialog(page).get_by_role("heading")).to_have_text("The endpoint was deleted")
        await _press(page, "Close")
        await expect(page.locator(".empty")).to_contain_text("No webhooks configured")
        assert asked == [("DELETE", None)]
        assert (await get(f"{url}/v1/webhooks"))["items"] == []


async def test_an_endpoint_of_the_file_says_how_far_it_can_be_changed(tmp_path: Path) -> None:
    """Changes are laid over the file; to delete it is the file's alone."""
    hook = {"name": "billing", "url": "https://billing.example.com/hooks", "secret": SECRET}
    async with running(write(tmp_path, sources=[], webhooks=[hook])) as url, browsing(url) as visit:
        page = visit.page
        await visit.to("webhooks/billing")
        await page.get_by_text("Settings", exact=True).click()
        await expect(page.locator(".settings")).to_contain_text("To delete it, take it out of the file.")
        await expect(page.get_by_role("button", name="Delete billing")).to_have_count(0)
        await page.get_by_role("button", name="Edit billing").click()
        await expect(_dialog(page)).to_contain_text("holds until the endpoint is edited in the file")
        await _dialog(page).get_by_label("Timeout of an attempt, s").fill("3")
        await _press(page, "Save")
        await expect(_dialog(page).get_by_role("status")).to_have_text("Changed: timeout.")
        endpoint = await get(f"{url}/v1/webhooks/billing")
        assert (endpoint["origin"], endpoint["timeout"]) == ("file", 3)


async def test_what_names_no_field_is_told_as_a_whole(tmp_path: Path) -> None:
    """A name that is taken; what was typed stays."""
    hook = {"name": "billing", "url": "https://billing.example.com/hooks", "secret": SECRET}
    async with running(write(tmp_path, sources=[], webhooks=[hook])) as url, browsing(url) as visit:
        page = visit.page
        await visit.to("webhooks")
        await page.get_by_role("button", name="New endpoint").click()
        await _dialog(page).get_by_label("Name", exact=True).fill("billing")
        await _dialog(page).get_by_label("URL", exact=True).fill("https://example.com/")
        await page.keyboard.press("Enter")
        await expect(_dialog(page).get_by_role("alert")).to_contain_text("There is an endpoint of that name.")
        await expect(_dialog(page).get_by_label("URL", exact=True)).to_have_value("https://example.com/")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="New endpoint")).to_be_focused()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_forms_are_accessible(tmp_path: Path, scheme: Any, size: tuple[int, int]) -> None:
    """In both themes and in a small window, with and without something to complain of."""
    hook = {
        "name": "a" * 64, "url": f"https://{'long.' * 20}example.com/{'path' * 200}", "secret": SECRET,
        "headers": {"X-" + "Header" * 20: "x"}, "kind": ["<b>\u202eodd" + "W" * 300],
    }  # fmt: skip
    config = write(tmp_path, sources=[], webhooks=[hook])
    context = {"color_scheme": scheme, "reduced_motion": "reduce"}
    async with running(config) as url, browsing(url, size=size, **context) as visit:
        page, look = visit.page, f"{scheme}-{size[0]}"
        page.set_default_timeout(PATIENCE * 1000)
        await visit.to("webhooks")
        await page.get_by_role("button", name="New endpoint").click()
        await _press(page, "Create")
        await _wrong(page, "Name", "Is required")
        await visit.picture(f"new-{look}")
        assert await visit.axe() == []
        assert await _overflow(page) <= 0
        await visit.to(f"webhooks/{hook['name']}")
        await page.get_by_text("Settings", exact=True).click()
        for button, name in (("Edit", "edit"), ("Rotate the secret of", "rotate"), ("Disable", "disable")):
            await page.get_by_role("button", name=f"{button} {hook['name']}").click()
            await visit.picture(f"{name}-{look}")
            assert await visit.axe() == [], name
            assert await _overflow(page) <= 0, name
            await page.keyboard.press("Escape")
        assert await visit.overflow() <= 0
        await visit.picture(f"endpoint-{look}")


async def _overflow(page: Page) -> int:
    """Pixels by which what is in a dialog is wider than it."""
    return int(await _dialog(page).evaluate("dialog => dialog.scrollWidth - dialog.clientWidth"))
