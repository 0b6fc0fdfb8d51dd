"""Reads the stream of a Mainstem gateway.

    async with mainstem_client.connect("http://127.0.0.1:8080", token="...") as gateway:
        async for event in gateway.events(type=["task.succeeded", "task.failed"]):
            print(event.task.key, event.task.status)

Needs aiohttp and nothing of the gateway.
"""

from mainstem_client.client import Client, TaskHandle, connect
from mainstem_client.errors import ClientError, Refused
from mainstem_client.event import Event, Task
from mainstem_client.events import Connected, Disconnected, Events, State
from mainstem_client.retry import Reconnect

__all__ = [
    "Client",
    "ClientError",
    "Connected",
    "Disconnected",
    "Event",
    "Events",
    "Reconnect",
    "Refused",
    "State",
    "Task",
    "TaskHandle",
    "connect",
]
