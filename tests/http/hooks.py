"""A stand-in for the webhook engine: endpoints and deliveries in memory, nothing is ever sent."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from gateway.errors import Invalid, Refused
from gateway.webhooks import record
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.manager import DeliveryView, EndpointView
from gateway.webhooks.signing import decode_secret
from gateway.webhooks.status import EndpointStatus

SECRET = "whsec_" + base64.b64encode(b"canary-secret-of-32-bytes-or-so!").decode()
GENERATED = "whsec_" + base64.b64encode(b"canary-made-by-the-gateway-here!").decode()
AT = "2026-01-31T12:00:00.000000Z"


def attempt(status: int | None = 500, error: str | None = "HTTP 500") -> dict[str, Any]:
    """One attempt as the engine lists it."""
    return {"at": AT, "status": status, "duration_ms": 12.345, "error": error, "response": None}


def delivery(sequence: int, state: str = "dead", *attempts: dict[str, Any], endpoint: str = "billing") -> DeliveryView:
    """A delivery as the engine shows it."""
    due = AT if state == "pending" else None
    return DeliveryView(
        id=f"{endpoint}.{sequence}", event_id=f"e{sequence}", sequence=sequence, task="studio/t1",
        event_type="task.succeeded", endpoint=endpoint, state=state, attempts=list(attempts), next_attempt_at=due,
    )  # fmt: skip


class FakeWebhooks:
    """Endpoints by name. `calls` has what was asked for besides, and by whom."""

    def __init__(self) -> None:
        self.views: dict[str, EndpointView] = {}
        self.all: dict[str, DeliveryView] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.floor = 0
        #: what becomes of the test event, look by look
        self.outcomes: list[DeliveryView] = []

    def add(self, name: str = "billing", origin: Literal["file", "api"] = "api", **settings: Any) -> None:
        """An endpoint that is there already."""
        given = {"name": name, "url": "https://example.com/hooks", "secret": SECRET} | settings
        self.views[name] = _view(EndpointConfig.model_validate(given), origin)

    def set(self, name: str, **status: Any) -> None:
        """What is said of how an endpoint is doing."""
        view = self.views[name]
        self.views[name] = replace(view, status=replace(view.status, **status))

    def deliver(self, *views: DeliveryView) -> None:
        """Deliveries that are there already."""
        self.all.update({view.id: view for view in views})

    def list(self) -> list[EndpointView]:
        return [self.views[name] for name in sorted(self.views)]

    def get(self, name: str) -> EndpointView:
        if name not in self.views:
            raise Refused(404, "webhook_not_found", "There is no such endpoint.")
        return self.views[name]

    async def create(self, settings: Mapping[str, Any], by: str) -> tuple[EndpointView, str | None]:
        made = None if settings.get("secret") else GENERATED
        config = record.validated({**settings, "secret": settings.get("secret") or GENERATED})
        if config.name in self.views:
            raise Refused(409, "webhook_exists", "There is an endpoint of this name.")
        self.views[config.name] = view = _view(config, "api")
        self.calls.append(("create", config.name, by))
        return view, made

    async def change(self, name: str, patch: Mapping[str, Any], by: str) -> EndpointView:
        view = self.get(name)
        config = record.validated(record.merge(record.settings_of(view.config), patch))
        self.views[name] = view = _view(config, view.origin)
        self.calls.append(("change", name, dict(patch), by))
        return view

    async def remove(self, name: str, by: str) -> None:
        if self.get(name).origin == "file":
            raise Refused(409, "webhook_in_file", "It is in the configuration file.")
        del self.views[name]
        self.calls.append(("remove", name, by))

    async def enable(self, name: str, by: str) -> EndpointView:
        self.calls.append(("enable", name, by))
        return self.get(name)

    async def rotate_secret(self, name: str, secret: str | None, overlap: float, by: str) -> str:
        self.get(name)
        errors = {} if 0 <= overlap <= 604800 else {"overlap": "must be 0 to 604800"}
        if secret is not None:
            try:
                decode_secret(secret)
            except ValueError as error:
                errors["secret"] = str(error)
        if errors:
            raise Invalid(errors)
        self.calls.append(("rotate", name, overlap, by))
        return secret or GENERATED

    async def test(self, name: str, by: str) -> DeliveryView:
        self.get(name)
        self.calls.append(("test", name, by))
        self.outcomes = self.outcomes or [delivery(7, "pending", endpoint=name)]
        return self.outcomes[0]

    async def replay(self, name: str, *, after: int | None, since: float | None, by: str) -> int:
        self.get(name)
        self.calls.append(("replay", name, after, since, by))
        return max(self.floor, after if after is not None else 0)

    async def deliveries(
        self, name: str, state: str | None, *, limit: int, cursor: str | None
    ) -> tuple[list[DeliveryView], str | None]:
        self.get(name)
        before = int(cursor) if cursor is not None else 1 << 62
        found = [
            view
            for view in sorted(self.all.values(), key=lambda view: -view.sequence)
            if view.endpoint == name and state in (None, view.state) and view.sequence < before
        ]
        return found[:limit], str(found[limit - 1].sequence) if len(found) > limit else None

    async def delivery(self, id: str) -> DeliveryView:
        if self.outcomes and self.outcomes[0].id == id:
            return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if id not in self.all:
            raise Refused(404, "delivery_not_found", "There is no such delivery.")
        return self.all[id]

    async def retry(self, id: str, by: str) -> DeliveryView:
        view = await self.delivery(id)
        self.calls.append(("retry", id, by))
        return delivery(view.sequence, "pending", *view.attempts, endpoint=view.endpoint)

    async def retry_dead(self, name: str, by: str) -> int:
        self.get(name)
        self.calls.append(("retry_dead", name, by))
        return sum(view.state == "dead" for view in self.all.values())


def _view(config: EndpointConfig, origin: Literal["file", "api"]) -> EndpointView:
    status = EndpointStatus(
        name=config.name, state="delivering", disabled=None, failing_since=None, breaker="closed", pending=0, in_flight=0,
        dead=0, position=0, lag=0, last_error=None, last_error_at=None, last_delivered_at=None, paused_until=None,
        replay_upto=None,
    )  # fmt: skip
    return EndpointView(config=config, origin=origin, status=status, secrets=1, overlap_until=None)
