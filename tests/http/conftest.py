"""The application on a real socket, around fakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.http.app import create_app
from tests.http.fakes import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def serve(aiohttp_client: Any) -> Callable[[World], Awaitable[TestClient]]:
    """A client of an application made from a world."""

    async def serve(world: World) -> TestClient:
        return await aiohttp_client(TestServer(create_app(world.parts)))

    return serve


@pytest.fixture
async def client(world: World, serve: Callable[[World], Awaitable[TestClient]]) -> TestClient:
    return await serve(world)
