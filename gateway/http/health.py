"""`/healthz`, `/readyz`, `/metrics`: for whoever runs the process. Open to all, so nothing here may tell a secret.

Alive is a process that answers; nothing it depends on counts, or a full disk would make a supervisor restart it for ever.
Ready is one that takes in and passes on: what is merely connecting or retrying does not make it unready.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gateway import __version__
from gateway.http import reading
from gateway.http.parts import Parts
from gateway.http.route import OPEN, Route

#: What an open page says of a source; the rest of its status needs a token.
_SHOWN = ("name", "adapter", "enabled", "state")
#: The same of a webhook endpoint; what goes wrong there never makes the gateway unready.
_SHOWN_OF_WEBHOOKS = ("state", "pending", "in_flight", "dead")


class Health:
    """The resources of health and metrics."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/healthz", self.alive, OPEN),
            Route("GET", "/readyz", self.ready, OPEN),
            Route("GET", "/metrics", self.metrics, OPEN),
        ]

    async def alive(self, request: web.Request) -> web.Response:
        """200: the process runs and its event loop turns."""
        return reading.encoded({"status": "ok", "version": __version__})

    async def ready(self, request: web.Request) -> web.Response:
        """200 where every check is fine, else 503; the body lists each check and each source."""
        statuses = self._parts.sources.status()
        sources = [{key: status.get(key) for key in _SHOWN} for status in statuses]
        checks = self._checks(statuses)
        ready = all(check["ok"] for check in checks.values())
        status = "ready" if ready else "unready"
        body = {"status": status, "checks": checks, "sources": sources, "webhooks": self._webhooks()}
        return reading.encoded(body, 200 if ready else 503)

    def _checks(self, statuses: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        parts = self._parts
        failed = [status["name"] for status in statuses if status["enabled"] and status["state"] == "failed"]
        fallen = list(parts.readiness.fallen)
        # Why the log cannot be written may name a path; the operator's log has it.
        return {
            "log": {"ok": parts.store.trouble is None},
            "draining": {"ok": not parts.readiness.draining},
            "sources": {"ok": not failed, "failed": failed},
            "tasks": {"ok": not fallen, "fallen": fallen},
        }

    def _webhooks(self) -> list[dict[str, Any]]:
        views = self._parts.webhooks.list()
        return [
            {"name": view.config.name} | {key: getattr(view.status, key) for key in _SHOWN_OF_WEBHOOKS}
            for view in views
        ]

    async def metrics(self, request: web.Request) -> web.Response:
        """The Prometheus text format."""
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        parts = self._parts
        for name, check in self._checks(parts.sources.status()).items():
            parts.metrics.ready.labels(name).set(check["ok"])
        return web.Response(body=parts.metrics.exposition(), headers=headers)
