"""Where the asset of a finished task can be downloaded: one question to an upstream, one answer for the API."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from adapters.api import Rejected
from gateway.upstream.client import Failure
from gateway.upstream.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What the API answers.

    Attributes:
        status: HTTP status: 200; 404 (no such task, no asset, or an upstream without downloads); 502 (the upstream did not
            answer as documented); 504 (it did not answer in time).
        body: on 200, the public part of the upstream's answer, a JSON object.
        code: otherwise, a short constant for programs.
        message: otherwise, what is wrong, in words.
    """

    status: int
    body: msgspec.Raw | None = field(default=None, repr=False)
    code: str | None = None
    message: str | None = None


async def fetch(context: Context, task_id: str) -> Download:
    """Asks the upstream once."""
    request = context.adapter.download(task_id)
    if request is None:
        return Download(status=404, code="no_downloads", message="this source has no downloads")
    answer = await context.client.get(request)
    if isinstance(answer, Failure):
        if answer.status in (404, 409):  # no such task or asset, or the task is not finished
            return Download(
                status=404, code="no_download", message="the upstream has nothing to download for this task"
            )
        if answer.timed_out:
            return Download(status=504, code="upstream_timeout", message="the upstream did not answer in time")
        return Download(status=502, code="upstream_error", message=f"the upstream's download endpoint: {answer.error}")
    public = context.adapter.on_download(answer.body)
    if isinstance(public, Rejected):
        context.reject(request.endpoint, public)
        return Download(status=502, code="upstream_error", message="the upstream's answer is not understood")
    return Download(status=200, body=public)
