"""A running gateway as commands talk to it: where it is, who asks, and one sentence for whatever goes wrong.

Owns the options `--url`, `--token` and `-c`. Must not know what any command asks for. A token is sent to the gateway that
was named and nowhere else: redirects are not followed, and no message repeats it, but says where it came from.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

import click
from click.core import ParameterSource

from gateway.commands.program import DEFAULT_URL
from gateway.errors import ConfigError, MainstemError

if TYPE_CHECKING:
    from gateway.config import Entrance

#: How a gateway says that it does not take a token, or that the token is not for this: over HTTP, and on the stream.
_UNKNOWN, _FORBIDDEN = (401, 4001, 4009), (403, 4003, "not_allowed")
#: Seconds for a request: a little more than the gateway takes for any.
TIMEOUT = 40.0
#: Seconds for which a minted token is good; who needs one for longer makes another.
_TTL = 300.0
_VARIABLE = "MAINSTEM_TOKEN"
_Answer = TypeVar("_Answer")
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Failed(MainstemError):
    """The gateway cannot be reached, or refuses.

    Attributes:
        status: of its answer over HTTP; None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Credential:
    """What a gateway is shown. `repr` shows no token.

    Attributes:
        token: or what makes one that is good for a while.
        origin: where it comes from, for messages: `--token`, `auth.secret of config.yaml`, ...
    """

    token: str | Callable[[], str] = field(repr=False)
    origin: str

    def bring(self) -> str:
        """The token to present now."""
        return self.token if isinstance(self.token, str) else self.token()


class Remote:
    """One gateway.

    Args:
        url: its base URL, with a path where a proxy puts it below one.
        credential: None where it asks for none.

    Attributes:
        url: without a slash at the end.
        where: the same without the path, for messages.
    """

    def __init__(self, url: str, credential: Credential | None = None) -> None:
        self.url, self.credential = url.rstrip("/"), credential
        parts = urlsplit(url)
        self.where = f"{parts.scheme}://{parts.netloc}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request has to have."""
        return {"Authorization": f"Bearer {self.credential.bring()}"} if self.credential else {}

    def ask(
        self,
        method: str,
        path: str,
        shape: type[_Answer],
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> _Answer:
        """`asked`, where no event loop runs."""
        return asyncio.run(self.asked(method, path, shape, body, query))

    async def asked(
        self,
        method: str,
        path: str,
        shape: type[_Answer],
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> _Answer:
        """The JSON that a request is answered with; None where the answer has no body.

        Args:
            shape: what it has to be, of `answers`; members that are not in it are left as they are.

        Raises:
            Failed: there is no good answer.
        """
        import aiohttp
        import yarl

        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        url = yarl.URL(self.url + path + (f"?{urlencode(query)}" if query else ""), encoded=True)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.request(method, url, json=body, headers=self.headers, allow_redirects=False) as answer,
            ):
                return self._read(answer.status, await answer.read(), shape)
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

    def _read(self, status: int, body: bytes, shape: type[_Answer]) -> _Answer:
        import msgspec

        value: Any = None
        try:
            value = msgspec.json.decode(body) if body else None
            if 200 <= status < 300:
                msgspec.convert(value, shape)
                return cast("_Answer", value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise self.foreign(status) from None
        if isinstance(value, dict) and isinstance(value.get("detail"), str):
            raise Failed(self.refusal(status, value["detail"]), status)
        raise self.foreign(status)

    def foreign(self, status: int) -> Failed:
        """What to raise where something else answers: a proxy, or another server at the same address."""
        return Failed(f"{self.where} answered HTTP {status}, but not as Mainstem does", status)

    def refusal(self, code: int | str, detail: str) -> str:
        """What to say where the gateway says no.

        Args:
            code: an HTTP status, a close code of the stream, or the gateway's word for it.
            detail: what it says itself.
        """
        if code in _UNKNOWN and self.credential is None:
            return f"{self.where} asks for a token: set {_VARIABLE}, or name its configuration with -c"
        if code in (*_UNKNOWN, *_FORBIDDEN) and self.credential is not None:
            return f"{self.where} refuses the token from {self.credential.origin}: {detail}"
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
            help=f"The gateway, over -c. Default: {DEFAULT_URL}, or as in -c.",
        )
        @click.option(
            "--token",
            "gateway_token",
            envvar=_VARIABLE,
            show_envvar=True,
            help=f"Access token. Better set in the environment: others on the machine may see arguments. The option goes "
            f"before {_VARIABLE}, and both before a token from -c.",
        )
        @click.option(
            "-c",
            "--config",
            "gateway_config",
            type=click.Path(path_type=Path),
            envvar="MAINSTEM_CONFIG",
            show_envvar=True,
            help="The gateway's configuration: for its address, and, where no token is given, a short-lived one made with "
            "its auth.secret, or one of its auth.tokens.",
        )
        @click.pass_context
        def wrapped(
            ctx: click.Context,
            /,
            gateway_url: str | None,
            gateway_token: str | None,
            gateway_config: Path | None,
            **options: Any,
        ) -> None:
            given = None
            if gateway_token:
                typed = ctx.get_parameter_source("gateway_token") is ParameterSource.COMMANDLINE
                given = _given(gateway_token, "--token" if typed else _VARIABLE, gateway_config)
            command(_remote(gateway_url, given, gateway_config, scope), **options)

        return functools.update_wrapper(wrapped, command)

    return decorate


def segment(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _given(token: str, origin: str, path: Path | None) -> Credential:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise click.BadParameter("is not a token", param_hint=origin)
    return Credential(token, f"{origin} (not from {path})" if path else origin)


def _remote(url: str | None, credential: Credential | None, path: Path | None, scope: str) -> Remote:
    if path is not None and not (url and credential):
        from gateway import config

        entrance = config.load_entrance(path)
        url = url or _address(entrance, path)
        credential = credential or _credential(entrance, path, scope)
    return Remote(base(url or DEFAULT_URL), credential)


def base(url: str) -> str:
    """The base URL of a gateway, without a slash at its end; that of its stream is taken for it as well.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        parts = urlsplit(url)
        named = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or parts.scheme not in _SCHEMES or "@" in parts.netloc or parts.query or parts.fragment:
        raise click.BadParameter(f"must be like {DEFAULT_URL}", param_hint="--url")
    return f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1/stream')}"


def _address(entrance: Entrance, path: Path) -> str:
    host, port = entrance.server.host, entrance.server.port
    if not port:
        raise ConfigError(f"{path}: server.port: is 0, so --url has to say where the gateway is")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _credential(entrance: Entrance, path: Path, scope: str) -> Credential | None:
    """A token with a scope and without bounds; None where the gateway asks for none."""
    auth = entrance.auth
    if auth.mode == "none":
        return None
    if auth.secret is not None:
        from gateway.commands.minting import mint

        return Credential(
            lambda: mint(auth, scope=scope, ttl=_TTL, now=time.time(), subject="mainstem-cli"), f"auth.secret of {path}"
        )
    for index, item in enumerate(auth.tokens):
        if item.scopes & {scope, "admin"} and item.bounds.is_empty:
            return Credential(item.token.get_secret_value(), f"auth.tokens[{index}] of {path}")
    raise ConfigError(f"{path}: auth: has no secret to make a token with, and no token with {scope}: set {_VARIABLE}")
