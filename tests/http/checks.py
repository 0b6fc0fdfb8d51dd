"""What tests of the HTTP application say again and again."""

from __future__ import annotations

from typing import Any

from aiohttp import ClientResponse

from schemas import problem


def bearer(token: str) -> dict[str, str]:
    """The header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


async def problem_of(response: ClientResponse, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem details object of an answer, checked against RFC 9457 and the model."""
    text = await response.text()
    assert response.status == status, text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = await response.json(content_type=None)
    problem.Problem.model_validate(body, strict=True)
    assert body["status"] == status
    assert body["type"] == f"urn:mainstem:problem:{body['code']}"
    assert body["instance"] == response.url.raw_path
    if code is not None:
        assert body["code"] == code
    return body


def fields(body: dict[str, Any]) -> list[str]:
    """The fields that a problem names."""
    return [item["field"] for item in body["errors"]]
