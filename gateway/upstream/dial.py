"""From a stream to an open connection: authorize, open a session, shake hands.

Owns the meaning of what goes wrong on the way, as the adapter sees it. Must not know why the connection is wanted (to be
kept, or as a short probe), or when to try again.
"""

from __future__ import annotations

import contextlib

from adapters.api import Resume, Session, Stream
from gateway.upstream.client import Answer, Failure
from gateway.upstream.connection import Connection
from gateway.upstream.context import Context
from gateway.upstream.reader import Ending


async def dial(context: Context, stream: Stream, resume: Resume) -> tuple[Connection, Session] | Ending:
    """One attempt to connect a stream; an `Ending` says why it came to nothing."""
    # Streams that carry everything do not queue behind a crowd of watches.
    turn = context.handshakes if stream.task_id is not None else contextlib.nullcontext()
    async with turn:
        ticket: bytes | None = None
        request = context.adapter.authorize(stream)
        if request is not None:
            match await context.client.get(request):
                case Answer(body=body):
                    ticket = body
                case failure:
                    return _ending(context, "authorization", failure)
        try:
            session = context.adapter.open(stream, resume, ticket)
        except ValueError:
            # its text may quote the answer, and that is a credential
            return Ending(verdict="retry", error="the answer to the authorization request is not understood")
        context.conceal(session)
        connection = await context.client.connect(
            session.request(),
            ping_interval=context.config.ping_interval,
            idle_timeout=context.config.idle_timeout,
        )
    if isinstance(connection, Failure):
        return _ending(context, "handshake", connection)
    return connection, session


def _ending(context: Context, step: str, failure: Failure) -> Ending:
    error = f"{step}: {failure.error}"
    if failure.status is None or failure.status == 200:
        return Ending(verdict="retry", error=error)
    return Ending(
        verdict=context.adapter.refusal(failure.status),
        error=error,
        code=str(failure.status),
        retry_after=failure.retry_after,
    )
