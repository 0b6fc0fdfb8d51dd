"""The client of one endpoint while its settings change: whatever is being sent ends by the settings it began with.

Owns which `Sender` is the current one, the keys that sign beside its own, and that an old one is closed when nothing uses it
any more. Must not know what is sent or what comes of it.
"""

from __future__ import annotations

from collections import Counter

from gateway.clock import Clock
from gateway.store.api import LogEvent
from gateway.webhooks import signing
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.names import Names
from gateway.webhooks.record import Record
from gateway.webhooks.sender import Answer, Sender


class Client:
    """Sends to one endpoint.

    Args:
        config: the endpoint.
        kept: has the secrets that were replaced.
        clock: tells how long these sign.
        names: host names to addresses.
    """

    def __init__(self, config: EndpointConfig, kept: Record, clock: Clock, names: Names) -> None:
        self._clock, self._names = clock, names
        self._using: Counter[Sender] = Counter()
        self._sender = Sender(config, clock, names)
        self._former = _decoded(kept)

    async def replace(self, config: EndpointConfig, kept: Record) -> None:
        """From now on sends by other settings."""
        old, self._sender = self._sender, Sender(config, self._clock, self._names)
        self._former = _decoded(kept)
        if not self._using[old]:
            await old.close()

    async def send(self, event: LogEvent) -> Answer:
        """Makes one attempt: see `Sender.send`."""
        now, sender = self._clock.now(), self._sender
        self._using[sender] += 1
        try:
            former = [key for key, until in self._former if until > now] if self._former else ()
            return await sender.send(event.id, event.body, former)
        finally:
            self._using[sender] -= 1
            if not self._using[sender] and sender is not self._sender:
                del self._using[sender]
                await sender.close()

    async def close(self) -> None:
        """Closes the connections; nothing is being sent. Idempotent."""
        await self._sender.close()


def _decoded(kept: Record) -> list[tuple[signing.Key, float]]:
    return [(signing.decode_secret(one.secret), one.until) for one in kept.former]
