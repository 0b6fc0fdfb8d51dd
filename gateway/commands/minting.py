"""Access tokens made with the shared secret of a configuration. Must not know who asks, nor print anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from gateway.config import Auth


def mint(
    auth: Auth, *, scope: str, ttl: float, now: float, subject: str | None = None, bounds: Mapping[str, list[str]] = {}
) -> str:
    """A JSON Web Token that the gateway of this configuration accepts.

    Args:
        auth: has a secret.
        scope: space-separated.
        ttl: seconds for which it is valid.
        now: seconds since 1970, UTC.
        subject: its `sub`.
        bounds: `sources`, `tasks`, `kinds`; an empty list bounds nothing.
    """
    assert auth.secret is not None
    issued = int(now)
    claims: dict[str, Any] = {"iat": issued, "exp": issued + max(1, round(ttl)), "scope": scope}
    optional = {"sub": subject, "aud": auth.audience, "iss": auth.issuer, **bounds}
    claims |= {name: value for name, value in optional.items() if value}
    return jwt.encode(claims, auth.secret.get_secret_value(), algorithm=auth.algorithms[0])
