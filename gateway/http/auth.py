"""Tokens: from what a request presents to the grant it stands for.

Owns verification of JSON Web Tokens (RFC 7519) and static tokens, and the keys for it. Which algorithms are accepted is the
operator's decision and never a token's (RFC 8725, section 3.1). A bound that cannot be understood refuses the token, because
ignoring it would show more than was granted. No text of a token gets into an error or a log line.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
import msgspec
import structlog
from aiohttp import ClientError, web
from jwt.exceptions import InvalidKeyError, PyJWKSetError, PyJWTError
from jwt.warnings import InsecureKeyLengthWarning
from pydantic import ValidationError

from gateway.access import SCOPES, Grant
from gateway.clock import Clock
from gateway.http.problems import Rejection
from schemas.filter import Filter

log = structlog.get_logger()

# The length of the shared secret is looked at once, when the gateway starts.
warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)

#: Claims and the field of a filter that each bounds.
_BOUNDS = {"sources": "source", "tasks": "task", "kinds": "kind"}
#: Seconds that a clock of an issuer may be ahead of ours.
_LEEWAY = 30.0
#: Characters; longer ones are refused unread.
_LONGEST = 16 * 1024
#: Values in one bound.
_MOST_VALUES = 10_000
#: Seconds for which fetched keys are good; seconds between two fetches.
_KEYS_GOOD, _KEYS_PAUSE = 600.0, 10.0

HttpGet = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token of the configuration, and what it stands for."""

    token: str = field(repr=False)
    grant: Grant


def token_of(request: web.Request) -> str | None:
    """The token that a request presents: `Authorization: Bearer` (RFC 6750, section 2.1), else `?token=`.

    An `Authorization` header of another kind is a token that nothing accepts, so that nobody gets in beside it.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""
    return request.query.get("token")


def unauthorized(code: str, message: str) -> Rejection:
    """A 401 with the challenge of RFC 6750, section 3."""
    challenge = "Bearer" if code == "missing_token" else 'Bearer error="invalid_token"'
    return Rejection(401, code, message, headers={"WWW-Authenticate": challenge})


class Authenticator:
    """Tells whose token it is."""

    def __init__(
        self,
        *,
        mode: Literal["none", "jwt"],
        clock: Clock,
        secret: str | None = None,
        public_key: str | None = None,
        jwks_url: str | None = None,
        algorithms: Sequence[str] = (),
        audience: str | None = None,
        issuer: str | None = None,
        tokens: Sequence[StaticToken] = (),
        http_get: HttpGet | None = None,
        former: Authenticator | None = None,
    ) -> None:
        """Args:
        mode: `none` grants everything to everybody.
        algorithms: the accepted ones, which must fit the kind of key; the configuration sees to that.
        http_get: fetches the body of a URL, for `jwks_url`; raises OSError or TimeoutError where it cannot.
        former: the one that this one replaces; the keys that it has fetched go on being used where the URL is the same.
        """
        self._open = mode == "none"
        self._clock = clock
        self._audience = audience
        self._issuer = issuer
        self._tokens = [(item.token.encode(), item.grant) for item in tokens]
        self._jws = jwt.PyJWS(algorithms=list(algorithms))
        self._algorithms = list(algorithms)
        self._key = secret.encode() if secret is not None else public_key
        self._published: PublishedKeys | None = None
        if jwks_url is not None and http_get is not None:
            known = former._published if former is not None else None
            same = known is not None and known.url == jwks_url
            self._published = known if same else PublishedKeys(jwks_url, http_get, clock)

    async def authenticate(self, token: str | None) -> Grant:
        """What the holder of a token may do.

        Raises:
            gateway.http.problems.Rejection: 401 `missing_token`, `bad_token` or `token_expired`; 503 `keys_unavailable`.
        """
        if self._open:
            return Grant(holder="anyone", scopes=frozenset({"admin"}))
        if token is None:
            raise unauthorized("missing_token", "A token is required.")
        static = self._static(token)
        if static is not None:
            return static
        if len(token) > _LONGEST or not token.isascii():
            raise unauthorized("bad_token", "The token is not valid.")
        return self._grant(await self._verified(token), token)

    def _static(self, token: str) -> Grant | None:
        """Compares with every static token in constant time, whether or not one has matched."""
        presented, found = token.encode("utf-8", "surrogatepass"), None
        for known, grant in self._tokens:
            if hmac.compare_digest(known, presented):
                found = grant
        return found

    async def _verified(self, token: str) -> dict[str, Any]:
        """The claims of a token with a good signature."""
        try:
            header = self._jws.get_unverified_header(token)
        except (PyJWTError, ValueError, RecursionError):
            raise unauthorized("bad_token", "The token is not valid.") from None
        keys: Sequence[Any]
        if self._published is not None:
            keys = await self._published.candidates(header.get("kid"), header.get("alg"), self._algorithms)
        else:
            keys = () if self._key is None else (self._key,)
        for key in keys:
            try:
                payload = self._jws.decode(token, key, algorithms=self._algorithms)
                claims = msgspec.json.decode(payload)
            except (PyJWTError, InvalidKeyError, msgspec.DecodeError, ValueError, TypeError, RecursionError):
                continue
            if isinstance(claims, dict):
                return claims
        raise unauthorized("bad_token", "The token is not valid.")

    def _grant(self, claims: Mapping[str, Any], token: str) -> Grant:
        now = self._clock.now()
        expires = _time(claims, "exp")
        if expires is None:
            raise unauthorized("bad_token", "The token has no exp claim.")
        if now >= expires:
            raise unauthorized("token_expired", "The token has expired.")
        begins = _time(claims, "nbf")
        if begins is not None and now + _LEEWAY < begins:
            raise unauthorized("bad_token", "The token is not valid yet.")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise unauthorized("bad_token", "The token has another issuer.")
        if self._audience is not None:
            audience = claims.get("aud")
            if self._audience not in (audience if isinstance(audience, list) else [audience]):
                raise unauthorized("bad_token", "The token is for another audience.")
        scope = claims.get("scope", "")
        if not isinstance(scope, str):
            raise unauthorized("bad_token", "The scope claim must be a string.")
        subject = claims.get("sub")
        return Grant(
            # tokens that name nobody are told apart, so that the limits of one do not lock out the others
            holder=f"jwt:{subject[:128]}" if isinstance(subject, str) and subject else f"jwt#{_digest(token)}",
            scopes=frozenset(scope.split()) & frozenset(SCOPES),
            bounds=_bounds(claims),
            expires=expires,
        )


class Door:
    """Where tokens are shown: asks the authenticator of the moment, which may be replaced by one with other rules.

    A token that was shown before that and judged after it is judged by the new one, so that nothing slips in between.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        #: the one that is asked
        self.authenticator = authenticator

    async def authenticate(self, token: str | None) -> Grant:
        """See `Authenticator.authenticate`."""
        while True:
            asked = self.authenticator
            grant = await asked.authenticate(token)
            if asked is self.authenticator:
                return grant


def _digest(token: str) -> str:
    return hashlib.blake2b(token.encode(), digest_size=8).hexdigest()


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519, section 2)."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise unauthorized("bad_token", f"The {name} claim must be a number.")
    return float(value)


def _bounds(claims: Mapping[str, Any]) -> Filter:
    """The bounds of a token. A claim that is there bounds, whatever it holds: an empty list would mean nothing at all."""
    fields: dict[str, tuple[str, ...]] = {}
    for claim, name in _BOUNDS.items():
        if claim not in claims:
            continue
        values = claims[claim]
        if not isinstance(values, list) or not values or len(values) > _MOST_VALUES:
            raise unauthorized("bad_token", f"The {claim} claim must be a list of one or more strings.")
        if not all(isinstance(value, str) for value in values):
            raise unauthorized("bad_token", f"The {claim} claim must be a list of one or more strings.")
        fields[name] = tuple(values)
    try:
        return Filter.model_validate(fields)
    except ValidationError:
        raise unauthorized("bad_token", "A bound in the token is empty.") from None


class PublishedKeys:
    """The keys that an issuer publishes (RFC 7517), fetched when needed and kept while it does not answer."""

    def __init__(self, url: str, http_get: HttpGet, clock: Clock) -> None:
        self.url = url
        self._get = http_get
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._fetched = -math.inf
        self._tried = -math.inf
        self._failing = False
        self._lock = asyncio.Lock()

    async def candidates(self, kid: object, algorithm: object, accepted: Sequence[str]) -> list[jwt.PyJWK]:
        """The keys that may have signed a token.

        Keys are fetched again after a while, and where one is unknown (the issuer has rotated them), but not at the pace of
        whoever makes up key ids.

        Raises:
            gateway.http.problems.Rejection: 503, the keys could not be fetched even once.
        """
        if algorithm not in accepted:
            return []
        now = self._clock.monotonic()
        found = self._matching(kid, algorithm)
        if now - self._fetched > _KEYS_GOOD or not found:
            await self._refresh(now)
            found = self._matching(kid, algorithm)
        if not self._keys:
            raise Rejection(503, "keys_unavailable", "Tokens cannot be verified now.", headers={"Retry-After": "10"})
        return found

    def _matching(self, kid: object, algorithm: object) -> list[jwt.PyJWK]:
        return [
            key
            for key in self._keys
            if key.algorithm_name == algorithm
            and key.public_key_use in (None, "sig")
            and (kid is None or key.key_id is None or key.key_id == kid)
        ]

    async def _refresh(self, asked: float) -> None:
        async with self._lock:
            if self._tried >= asked or self._clock.monotonic() - self._tried < _KEYS_PAUSE:
                return  # somebody else has just tried
            self._tried = self._clock.monotonic()
            try:
                document = msgspec.json.decode(await self._get(self.url))
                keys = jwt.PyJWKSet.from_dict(document).keys
            except (
                ClientError,
                OSError,
                TimeoutError,
                msgspec.DecodeError,
                PyJWKSetError,
                PyJWTError,
                AttributeError,
                TypeError,
            ) as error:
                if not self._failing:
                    log.warning("auth_keys_unavailable", error=type(error).__name__, kept=len(self._keys))
                self._failing = True
                return
            self._keys = [key for key in keys if key.key_type != "oct"]
            self._fetched = self._tried
            if self._failing:
                log.info("auth_keys_available", keys=len(self._keys))
            self._failing = False
