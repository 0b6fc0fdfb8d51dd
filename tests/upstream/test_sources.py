"""All sources together: strangers to each other."""

from __future__ import annotations

import random

import pytest

from adapters.api import Stream
from gateway.errors import Refused
from gateway.metrics import Metrics
from gateway.upstream.context import Memory, fact
from gateway.upstream.limits import Limits
from gateway.upstream.sources import Sources
from tests.upstream.kit import FakeIntake, FakeStore, ManualClock, Upstream, until
from tests.upstream.toy import Toy, ToyConfig, everything


class AnyIntake(FakeIntake):
    """Of several sources."""

    async def notice(self, source: str, adapter: str, type: str, data: dict[str, object]) -> None:
        self.notices.append((f"{source} {type}", dict(data)))


async def test_one_dead_source_disturbs_no_other() -> None:
    """A refused one, one that nobody answers, a disabled one, and one that works."""
    upstream = Upstream()
    await upstream.server.start_server()
    upstream.on("/all")(upstream.says({"task": "a"}))

    def toy(name: str, *streams: Stream, url: str = upstream.url, **config: object) -> Toy:
        return Toy(ToyConfig.model_validate({"name": name, "url": url, "ping_interval": 3600, **config}), *streams)

    store, clock = FakeStore(), ManualClock()
    intake = AnyIntake(store)
    adapters = [
        toy("refused", Stream(key="x", path="/nowhere")),
        toy("dead", everything(), url="ws://127.0.0.1:1"),
        toy("off", everything(), enabled=False),
        toy("well", everything()),
    ]
    sources = Sources(adapters, intake, store, clock, random.Random(1), Metrics(), Limits(close=0.2))  # type: ignore[arg-type]
    try:
        await sources.start()
        await until(lambda: intake.tasks and sources.trouble() and sources.get("dead").state == "retrying")
        states = {row["name"]: row["state"] for row in sources.status()}
        assert states == {"refused": "failed", "dead": "retrying", "off": "disabled", "well": "live"}
        assert set(sources.status()[2]) == set(sources.status()[3])
        assert list(sources.trouble()) == ["refused"]
        assert sources.names() == ["refused", "dead", "well"]
        assert sources.watches() == []
        for name, code in (("off", "source_disabled"), ("nobody", "unknown_source")):
            with pytest.raises(Refused) as caught:
                sources.get(name)
            assert caught.value.code == code
    finally:
        await sources.stop()
        await upstream.server.close()


def test_rows_that_cannot_be_read_are_as_good_as_none() -> None:
    """A store may hold what another version wrote."""
    for row in (None, b"", b"null", b"\xff", b"[1]"):
        assert fact(row) is None
        assert Memory.decode(row) == Memory()
    assert Memory.decode(b'{"connected_at": "then"}') == Memory()
    assert Memory.decode(b'{"connected_at": 1, "alive_at": 2.5, "more": 1}') == Memory(connected_at=1, alive_at=2.5)
