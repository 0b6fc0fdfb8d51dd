"""Tells systemd how the process is doing (sd_notify(3)), without a library.

Owns the datagrams to `$NOTIFY_SOCKET` and the pace of the watchdog. Outside of systemd every call does nothing. A message
that cannot be sent is lost: whoever supervises notices by itself, and the gateway has better things to do than to fail.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from gateway.clock import Clock

log = structlog.get_logger(__name__)

#: Share of the watchdog's patience after which it hears from us: sd_watchdog_enabled(3) asks for half of it.
_SHARE: Final = 0.5


class Notifier:
    """The line to the service manager.

    Args:
        environ: the environment; `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are read, and nothing is changed.
        pid: of this process.
    """

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._failed = False
        self.interval = _interval(environ, os.getpid() if pid is None else pid) if self._address else None
        """Seconds between two signs of life; None: nobody waits for them."""

    def ready(self) -> None:
        """The service is up, or is done with reloading."""
        self._send("READY=1\nSTATUS=Takes in and passes on")

    def reloading(self, now: float) -> None:
        """The service reads its configuration again; `ready` says that it is done.

        Args:
            now: seconds on the clock of the machine that never goes back.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}\nSTATUS=Reads its configuration again")

    def stopping(self) -> None:
        """The service shuts down."""
        self._send("STOPPING=1\nSTATUS=Drains")

    async def watch(self, clock: Clock, healthy: Callable[[], bool]) -> None:
        """Gives signs of life while the event loop turns and all is well; returns at once where nobody waits for them."""
        while self.interval is not None:
            if healthy():
                self._send("WATCHDOG=1")
            await clock.sleep(self.interval)

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as line:
                line.setblocking(False)
                line.connect(self._address)
                line.send(message.encode())
        except OSError as error:
            if not self._failed:
                log.warning("service_manager_unreachable", error=error.strerror or type(error).__name__)
            self._failed = True
        else:
            self._failed = False


def _address(text: str) -> str | None:
    """A path, or a name in the abstract namespace, which begins with `@`; other kinds of sockets are not for us."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _interval(environ: Mapping[str, str], pid: int) -> float | None:
    microseconds, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or (owner and owner != str(pid)):
        return None
    return int(microseconds) / 1e6 * _SHARE
