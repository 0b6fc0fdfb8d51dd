"""A running gateway as commands talk to it: where it is, who asks, and one sentence for whatever goes wrong.

Owns the options `--url`, `--token` and `-c`. Must not know what any command asks for. A token is sent to the gateway that
was named and nowhere else: redirects are not followed, and no message repeats it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import click

from gateway.commands import table
from gateway.commands.program import DEFAULT_URL
from gateway.errors import ConfigError, MainstemError

if TYPE_CHECKING:
    from gateway.config import Settings

#: Seconds for a request: a little more than the gateway takes for any.
TIMEOUT = 40.0
#: Seconds for which a minted token is good: one command's worth.
_TTL = 300.0


class Failed(MainstemError):
    """The gateway cannot be reached, or refuses."""


class Remote:
    """One gateway.

    Args:
        url: its base URL, with a path where a proxy puts it below one.
        token: None where it asks for none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._base, self._token = url.rstrip("/"), token
        parts = urlsplit(url)
        self.where = f"{parts.scheme}://{parts.netloc}"

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON that a request is answered with; None where the answer has no body.

        Raises:
            Failed: there is no good answer.
        """
        return asyncio.run(self._ask(method, path + (f"?{urlencode(query)}" if query else ""), body))

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        import aiohttp
        import yarl

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        url = yarl.URL(self._base + path, encoded=True)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.request(method, url, json=body, headers=headers, allow_redirects=False) as answer,
            ):
                return self._read(answer.status, await answer.read())
        except TimeoutError:
            raise Failed(f"{self.where} gave no answer in {TIMEOUT:.0f} s; it may have done what was asked") from None
        except aiohttp.ClientSSLError:
            raise Failed(f"no trusted TLS connection to {self.where} can be made") from None
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            why = os.strerror(number) if number and number > 0 else "there is no such host"
            raise Failed(f"cannot connect to {self.where}: {why}; is the gateway running there?") from None
        except aiohttp.ClientError as error:
            raise Failed(f"{self.where} did not answer as HTTP asks for: {type(error).__name__}") from None

    def _read(self, status: int, body: bytes) -> Any:
        import msgspec

        try:
            value = msgspec.json.decode(body) if body else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = ...
        if 200 <= status < 300 and value is not ...:
            return value
        if isinstance(value, dict) and isinstance(value.get("detail"), str):
            raise Failed(self._refusal(status, value))
        raise Failed(f"{self.where} answered HTTP {status}, but not as Mainstem does")

    def _refusal(self, status: int, problem: dict[str, Any]) -> str:
        detail = table.plain(problem["detail"])
        if status == 401 and self._token is None:
            return f"{self.where} asks for a token: set MAINSTEM_TOKEN, or name its configuration with -c"
        if status == 401:
            return f"{self.where} refuses the token: {detail}"
        return detail


def connected(scope: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options that say which gateway it talks to, and that gateway as its first argument.

    Args:
        scope: of a token that is made with the secret of a configuration.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option(
            "--url",
            "gateway_url",
            envvar="MAINSTEM_URL",
            show_envvar=True,
            help=f"The gateway. Default: {DEFAULT_URL}, or as in -c.",
        )
        @click.option(
            "--token",
            "gateway_token",
            envvar="MAINSTEM_TOKEN",
            show_envvar=True,
            help="Access token. Better set in the environment: others on the machine may see arguments.",
        )
        @click.option(
            "-c",
            "--config",
            "gateway_config",
            type=click.Path(path_type=Path),
            envvar="MAINSTEM_CONFIG",
            show_envvar=True,
            help="The gateway's configuration: for its address, and a short-lived token made with its secret.",
        )
        @functools.wraps(command)
        def wrapped(
            gateway_url: str | None, gateway_token: str | None, gateway_config: Path | None, **options: Any
        ) -> None:
            command(_remote(gateway_url, gateway_token, gateway_config, scope), **options)

        return wrapped

    return decorate


def segment(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _remote(url: str | None, token: str | None, path: Path | None, scope: str) -> Remote:
    if path is not None and (url is None or token is None):
        from gateway import config

        settings = config.load(path)
        url = url or _address(settings, path)
        token = token or _token(settings, path, scope)
    url = url or DEFAULT_URL
    if not _is_base(url):
        raise click.BadParameter("must be like http://127.0.0.1:8080", param_hint="--url")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise click.BadParameter("is not a token", param_hint="--token")
    return Remote(url, token or None)


def _is_base(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return named and parts.scheme in ("http", "https") and not (parts.username or parts.query or parts.fragment)


def _address(settings: Settings, path: Path) -> str:
    host, port = settings.server.host, settings.server.port
    if not port:
        raise ConfigError(f"{path}: server.port: is 0, so --url has to say where the gateway is")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _token(settings: Settings, path: Path, scope: str) -> str | None:
    """A token with a scope and without bounds; None where the gateway asks for none."""
    auth = settings.auth
    if auth.mode == "none":
        return None
    if auth.secret is not None:
        from gateway.commands.minting import mint

        return mint(auth, scope=scope, ttl=_TTL, now=time.time(), subject="mainstem-cli")
    for item in auth.tokens:
        if item.scopes & {scope, "admin"} and item.bounds.is_empty:
            return item.token.get_secret_value()
    raise ConfigError(
        f"{path}: auth: has no secret to make a token with, and no token with {scope}: set MAINSTEM_TOKEN"
    )
