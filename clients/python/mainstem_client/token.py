"""Tokens: where they come from, and when they end.

A token is never verified here: its holder needs no key. Its `exp` is read only to bring a new one in time.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import json
from collections.abc import Awaitable, Callable

#: A token, or what brings one: called before every connect, and before a JWT expires while connected.
Token = str | Callable[[], str | Awaitable[str]] | None

#: Seconds before its end at which a token is renewed; a short-lived one at three quarters of what is left.
MARGIN = 30.0


async def bring(token: Token) -> str | None:
    """The token to present now. What a callable raises comes out."""
    if token is None or isinstance(token, str):
        return token
    value = token()
    return await value if inspect.isawaitable(value) else value


def expires(token: str) -> float | None:
    """`exp` of a JWT, seconds since 1970 (UTC); None where it has none or is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    value = claims.get("exp") if isinstance(claims, dict) else None
    return float(value) if isinstance(value, int | float) else None


def renewal(token: str, now: float) -> float | None:
    """Seconds from now at which to bring a new one; None: it does not end."""
    end = expires(token)
    if end is None:
        return None
    left = max(end - now, 0.0)
    return max(left - MARGIN, left * 0.75)
