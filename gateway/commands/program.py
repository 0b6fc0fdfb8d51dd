"""What commands share: the option that names the configuration, its loading, and the running of a program on an event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.errors import ConfigError, MainstemError

if TYPE_CHECKING:
    from gateway.config import Settings

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default="config.yaml",
    envvar="MAINSTEM_CONFIG",
    show_default=True,
    show_envvar=True,
    help="Configuration file.",
)


#: Where a gateway is that was told nothing else.
DEFAULT_URL = "http://127.0.0.1:8080"

url_option = click.option(
    "--url",
    default=DEFAULT_URL,
    envvar="MAINSTEM_URL",
    show_default=True,
    show_envvar=True,
    help="Gateway.",
)


def load(path: Path) -> Settings:
    """The configuration in a file.

    Raises:
        ConfigError: it is not valid.
    """
    from gateway import config

    return config.load(path)


def load_again(path: Path) -> Settings:
    """The configuration in a file that was read before.

    Raises:
        ConfigError: it is not valid, or is a pipe, in which there is nothing any more.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is not a regular file, so it cannot be read again")
    return load(path)


def execute(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Runs a program on a fast event loop where there is one. What nobody expected is logged, so without secrets.

    Raises:
        MainstemError, OSError: what the operator can do something about, out of whichever task group it comes.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work())
    except KeyboardInterrupt:
        return 0  # everything was cancelled and has cleaned up after itself
    except (MainstemError, OSError):
        raise
    except Exception as error:
        expected: BaseException = error
        while isinstance(expected, BaseExceptionGroup):
            expected = expected.exceptions[0]
        if isinstance(expected, (MainstemError, OSError)):
            raise expected from None
        import structlog

        structlog.get_logger(__name__).critical("crashed", exc_info=True)
        return 1


async def until_signal(work: Coroutine[Any, Any, int]) -> int:
    """Runs something that ends when it is told to, by SIGINT or SIGTERM: then it is cancelled, and all is well."""
    task = asyncio.create_task(work, name="program")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait({task})
    return 0 if task.cancelled() else task.result()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
