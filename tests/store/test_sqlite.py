"""The contract, kept by the SQLite engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.store.sqlite import SqliteStore

from .contract import Reopen, StoreContract


@pytest.fixture(params=["power", "process"])
async def reopen(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Reopen]:
    store: SqliteStore | None = None

    async def again() -> SqliteStore:
        nonlocal store
        if store is not None:
            await store.close()
        store = SqliteStore(tmp_path / "log.db", durability=request.param, clock=SystemClock())
        await store.open()
        return store

    yield again
    if store is not None:
        await store.close()


class TestSqlite(StoreContract):
    """Every promise of the contract, with both durabilities."""
