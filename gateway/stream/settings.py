"""Limits and intervals of the stream."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.stream import TOO_SLOW, Close


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """Times in seconds, sizes in bytes.

    Attributes:
        buffer: unsent bytes that a connection may have (`server.stream_buffer`).
        connections: open connections of the whole process; more are answered 503.
        per_holder: open connections of one token.
        per_address: open connections of one network address; None: any number, because a proxy may stand for everybody.
        subscriptions: of one connection.
        authentication: time for the first message of a connection that came without a token.
        ping: interval of WebSocket pings.
        heartbeat: interval of SSE comments.
        silence: after which a peer that answers no ping, or takes no byte of what waits for it, is dead.
        grace: time for a close to be written and answered; `silence` where the peer was too slow.
        reconnect: the longest wait that `stream.closing` asks for.
        command_rate: commands and pings a second, on average.
        command_burst: commands and pings at once.
        malformed: malformed commands in a row that end the connection.
        sweep: interval of the shared timer behind all of these.
        reads: replays and snapshots that read the store at the same time.
        compression: agree on compressed messages with WebSocket clients that can take shared ones; needs `direct`.
        direct: write to the transports of the requests; off: through the methods of aiohttp.
    """

    buffer: int = 1024 * 1024
    connections: int = 10_000
    per_holder: int = 1_000
    per_address: int | None = None
    subscriptions: int = 256
    authentication: float = 5.0
    ping: float = 20.0
    heartbeat: float = 15.0
    silence: float = 45.0
    grace: float = 3.0
    reconnect: float = 5.0
    command_rate: float = 50.0
    command_burst: int = 200
    malformed: int = 10
    sweep: float = 0.5
    reads: int = 16
    compression: bool = False
    direct: bool = True

    def patience(self, close: Close | None) -> float:
        """Seconds that a close may take. Who was too slow has a backlog to take before the close can be read."""
        return self.silence if close is TOO_SLOW else self.grace
