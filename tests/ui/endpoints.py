"""The webhook API as the dashboard sees it, played by a few endpoints that remember what was asked of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

AT = "2026-01-02T03:04:05.000000Z"


def endpoint(name: str, **health: Any) -> dict[str, Any]:
    """An endpoint as it is answered."""
    return {
        "name": name, "url": f"https://{name}.example.com/hooks", "allow_private": False, "allow_http": False,
        "source": [], "task": [], "kind": [], "status": [], "type": ["task.succeeded"], "headers": {},
        "retry_schedule": [5.0, 300.0], "timeout": 15.0, "concurrency": 16, "rate_limit": None, "progress": "every",
        "disable_after": 432000.0, "enabled": True, "origin": "file",
        "secrets": {"active": 1, "overlap_until": None, "public_key": None},
        "health": {
            "state": "delivering", "disabled": None, "failing_since": None, "breaker": "closed", "pending": 0,
            "in_flight": 0, "dead": 0, "position": "00000000000000000034", "lag": 0, "last_error": None,
            "last_error_at": None, "last_delivered_at": AT, "paused_until": None, "replay_upto": None, **health,
        },
    }  # fmt: skip


def delivery(name: str, sequence: int, state: str) -> dict[str, Any]:
    """A delivery as it is answered."""
    failed = {"at": AT, "status": 500, "duration_ms": 12.5, "error": None, "response": "<b>out of order</b>"}
    good = {"at": AT, "status": 204, "duration_ms": 3.1, "error": None, "response": None}
    return {
        "id": f"{name}.{sequence}", "event_id": f"evt_{sequence}", "endpoint": name, "state": state,
        "attempts": [failed, failed] if state == "dead" else [good], "next_attempt_at": None,
        "sequence": f"{sequence:020d}", "type": "task.succeeded", "task": f"jobs/{sequence}",
    }  # fmt: skip


class Endpoints:
    """Answers `/v1/webhooks` and `/v1/deliveries`. `asked` are the changes that were asked for, with their bodies."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        #: what becomes of a test, once it is asked about
        self.outcome = "delivered"
        self.endpoints = {
            "billing": endpoint("billing"),
            "crm": endpoint(
                "crm", state="failing", failing_since=AT, dead=2, pending=7, last_error="HTTP 500", last_error_at=AT
            ),
            "audit": endpoint("audit", state="disabled", disabled="the receiver said 410"),
        }
        self.deliveries = {
            "crm": [delivery("crm", 12, "dead"), delivery("crm", 11, "dead"), delivery("crm", 10, "delivered")]
        }

    async def install(self, page: Page) -> None:
        """Takes the place of the gateway's own answers."""
        await page.route("**/v1/webhooks**", self._answer)
        await page.route("**/v1/webhooks/**", self._answer)
        await page.route("**/v1/deliveries/**", self._answer)

    async def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        body = json.loads(route.request.post_data) if route.request.post_data else None
        status, answer = self._of(route.request.method, url.path.split("/v1/")[1].split("/"), parse_qs(url.query), body)
        await route.fulfill(status=status, content_type="application/json", body=json.dumps(answer))

    def _of(self, method: str, path: list[str], query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if method == "POST":
            self.asked.append((method, "/".join(path), body))
        match path:
            case ["webhooks"]:
                return 200, {"items": [self.endpoints[name] for name in sorted(self.endpoints)], "next": None}
            case ["webhooks", name]:
                return 200, self.endpoints[name]
            case ["webhooks", name, "deliveries"]:
                wanted = query.get("state")
                found = [one for one in self.deliveries.get(name, []) if wanted is None or one["state"] in wanted]
                return 200, {"items": found, "next": None}
            case ["webhooks", name, "test"]:
                return 202, delivery(name, 13, "pending")
            case ["webhooks", name, "enable"]:
                self.endpoints[name] = endpoint(name)
                return 200, self.endpoints[name]
            case ["webhooks", name, "retry"]:
                return 202, {"endpoint": name, "retried": self.endpoints[name]["health"]["dead"]}
            case ["webhooks", name, "replay"]:
                return 202, {"endpoint": name, "after": "00000000000000000007", "complete": False}
            case ["deliveries", id]:
                name, _, sequence = id.rpartition(".")
                return 200, delivery(name, int(sequence), self.outcome)
            case ["deliveries", id, "retry"]:
                name, _, sequence = id.rpartition(".")
                self.deliveries[name] = [one for one in self.deliveries[name] if one["id"] != id]
                return 202, delivery(name, int(sequence), "pending")
        return 404, {"status": 404, "code": "not_found", "detail": "There is no resource at this path."}
